"""Models are kept with the basis; what came later is only scored, and never by a model that saw it."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from siftline.domain.scores import ScoredImages
from siftline_workers.methods import funad
from siftline_workers.methods.cross_fitting import folds_with_later_ones
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.pipeline import descriptions
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.descriptions import Basis, Descriptions
from siftline_workers.pipeline.learned import Evidence, place_scores
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, rank
from siftline_workers.pipeline.stages import Stages
from tests.unit.methods.synthetic import picked, texture_images

BEFORE, AFTER = 60, 66


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(funad, "FunadOptions", partial(FunadOptions, steps=5))


def grown_set(*again: int) -> PatchFeatures:
    """66 textures, two of the first 60 odd; the last show what the images `again` of the first show."""
    features = texture_images(AFTER, odd=2, seed=3)
    order = [*range(AFTER - 2, AFTER), *range(AFTER - 2 - len(again)), *again]
    return picked(features, order, [f"image-{place:03d}" for place in range(AFTER)])


def updated(
    features: PatchFeatures,
    folder: Path,
    decided: dict[str, bool] | None = None,
    *,
    basis: int = BEFORE,
    earlier: Descriptions | None = None,
) -> Ranking:
    """As the job does it; `folder` holds what earlier calls kept."""
    first = Basis(basis, Checkpoints(folder, "basis"))
    if earlier is None and basis < features.n_images:
        earlier = descriptions.kept(first, features.ids)
    new = picked(features, [*range(basis, features.n_images)]) if earlier else features
    stages, run = Stages(SHARES, lambda _stage, _share: None), Checkpoints(folder, "run")
    ranking = rank(new, RankOptions(), run, stages, decided, basis=first, earlier=earlier)
    run.clear()
    return ranking


def models(folder: Path) -> set[str]:
    return {path.name for path in (folder / "basis").iterdir() if path.name[:5] in ("padim", "funad")}


def test_an_update_says_the_same_whatever_was_kept_and_trains_nothing(tmp_path: Path) -> None:
    features = grown_set(7)
    first = updated(features.first(BEFORE), tmp_path / "kept", basis=BEFORE)
    trained = models(tmp_path / "kept")
    assert len(trained) == 2
    one, other = updated(features, tmp_path / "kept"), updated(features, tmp_path / "new")
    assert models(tmp_path / "kept") == trained == models(tmp_path / "new")
    assert one.fused.scores.ids == other.fused.scores.ids == features.ids
    assert (one.fused.scores.values == other.fused.scores.values).all()
    assert (one.heat == other.heat).all()
    assert one.split.verdict == other.split.verdict
    first_part = Basis(BEFORE, Checkpoints(tmp_path / "kept", "basis"))
    earlier = descriptions.kept(first_part, features.ids)
    first_part.pieces.clear()  # another job of the dataset has landed on another basis in this moment
    third = updated(features, tmp_path / "kept", earlier=earlier)
    assert (one.fused.scores.values == third.fused.scores.values).all()
    whole = updated(features, tmp_path / "whole", basis=AFTER)
    assert (
        set(one.fused.scores.ranking()[:2]) == set(whole.fused.scores.ranking()[:2]) == set(features.ids[:2])
    )
    for ranking in (first, whole):
        known = ranking.fused.scores.by_id()
        shared = [i for i in features.ids if i in known]
        pairs = [(known[i], one.fused.scores.by_id()[i]) for i in shared]
        places = np.array(pairs).T.argsort(axis=1).argsort(axis=1)
        assert np.asarray(np.corrcoef(places))[0, 1] > 0.9


def test_another_decision_on_the_basis_trains_anew_and_without_the_rejected(tmp_path: Path) -> None:
    features = grown_set()
    updated(features.first(BEFORE), tmp_path, basis=BEFORE)
    trained = models(tmp_path)
    updated(features, tmp_path, {features.ids[-1]: True})
    assert models(tmp_path) == trained, "nothing was trained on the image that was rejected"
    updated(features, tmp_path, {features.ids[1]: False})
    anew = models(tmp_path) - trained
    assert [name[:5] for name in anew] == ["funad"], "a kept image is no news to the models of places"
    rejected = {features.ids[0]: True}
    one, other = updated(features, tmp_path, rejected), updated(features, tmp_path / "new", rejected)
    assert len(models(tmp_path) - anew) == 4
    assert (one.fused.scores.values == other.fused.scores.values).all()


def test_what_a_later_image_makes_one_is_scored_by_models_that_saw_none_of_it(tmp_path: Path) -> None:
    features = grown_set(4)
    between = features.of(3) / 2 + features.of(4) / 2
    features.patches[-len(between) :] = between  # shows what images 3 and 4 show
    found = updated(features, tmp_path)
    group = found.groups.group
    assert group[3] == group[4] == group[-1]
    before = updated(features.first(BEFORE), tmp_path / "first", basis=BEFORE)
    assert models(tmp_path) == models(tmp_path / "first"), "the others keep their models"
    for name in ("padim", "funad"):
        one, other = (ranking.fused.signals[name].values for ranking in (found, before))
        places = [np.delete(values[:BEFORE], [3, 4]).argsort().argsort() for values in (one, other)]
        assert np.abs(places[0] - places[1]).max() <= 2, "and their scores, but for the scale"


def test_a_later_image_has_the_fold_of_what_it_shows() -> None:
    fold = np.array([0, 1, 2, 3, 0])
    ids = tuple(f"image-{i}" for i in range(9))

    def told(*group: int) -> tuple[list[int], list[int]]:
        taught = np.ones(5, bool)
        found, apart = folds_with_later_ones(fold, taught, NearDuplicates(ids, np.array(group)), seed=0)
        return found.tolist(), np.flatnonzero(apart).tolist()

    alone, apart = told(0, 1, 2, 3, 4, 5, 6, 7, 8)
    assert alone[:5] == fold.tolist()
    assert set(alone) <= {0, 1, 2, 3}
    assert apart == []
    some, apart = told(0, 1, 2, 3, 4, 2, 1, 7, 7)
    assert some[:7] == [0, 1, 2, 3, 0, 2, 1]
    assert some[7] == some[8]
    assert apart == []
    assert told(0, 1, 2, 3, 0, 5, 6, 7, 8)[1] == [], "one fold"
    assert told(0, 1, 2, 2, 4, 2, 6, 7, 8)[1] == [2, 3, 5], "two folds"


@pytest.mark.parametrize("rejected", [0, 1])
def test_what_comes_to_a_basis_of_one_thing_is_scored_by_models_that_saw_it(
    rejected: int, tmp_path: Path
) -> None:
    """With one image rejected the basis shows two things, of which one teaches nothing."""
    shown, n = [0] * 10 + [7] * rejected + [1, 2, 3, 4, 5, 6], 10 + rejected
    ids = tuple(f"image-{place:02d}" for place in range(len(shown)))
    features = picked(texture_images(8), shown, list(ids))
    groups = NearDuplicates(ids, np.r_[np.zeros(10, int), np.arange(10, len(ids))])
    kept, barred = np.zeros(len(ids), bool), np.isin(np.arange(len(ids)), range(10, n))

    def never(_progress: object) -> tuple[NeighbourGraph, ScoredImages]:
        raise AssertionError("places need no graph")

    every = Evidence(features, groups, kept, barred, Checkpoints(tmp_path, "run"), never)
    first = Evidence(
        features.first(n),
        NearDuplicates(ids[:n], groups.group[:n]),
        kept[:n],
        barred[:n],
        Checkpoints(tmp_path, "basis"),
        never,
    )
    found = place_scores(every, first, seed=0, progress=lambda _share: None).scores.values
    assert (found[:10] == 0).all(), "nobody else was there to teach what is normal"
    assert (found[n:] > 0).all()
