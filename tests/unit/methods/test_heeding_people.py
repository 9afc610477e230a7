"""Decisions in the ranking: what a person rejected never shows what is normal; kept images do."""

from pathlib import Path

import numpy as np

from siftline.domain.scores import ScoredImages
from siftline_workers.methods import llbnad, neighbours
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions, HeadFit
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.ranking import SHARES, Ranking, RankOptions, _heeded, rank
from siftline_workers.pipeline.stages import Stages
from tests.unit.methods.synthetic import DIM, SIDE, texture_images

N, DEFECTS = 60, 8


def with_a_repeated_defect(seed: int = 0) -> PatchFeatures:
    """60 textures; the last eight carry one defect, each elsewhere, and vouch for each other."""
    rng = np.random.default_rng(seed)
    layout = rng.normal(size=(1, SIDE, SIDE, DIM))
    maps = layout + 0.5 * rng.normal(size=(N, SIDE, SIDE, DIM))
    defect = 4 * rng.normal(size=DIM)
    for i in range(N - DEFECTS, N):
        row, column = rng.integers(0, SIDE - 1, 2)
        maps[i, row : row + 2, column : column + 2] = defect + 0.1 * rng.normal(size=(2, 2, DIM))
    return PatchFeatures.from_grids([f"image-{i:03d}" for i in range(N)], list(maps.astype(np.float16)))


def ranked(features: PatchFeatures, folder: Path, decided: dict[str, bool] | None = None) -> Ranking:
    stages = Stages(SHARES, lambda _stage, _share: None)
    return rank(
        features, RankOptions(), Checkpoints(folder, str(sorted((decided or {}).items()))), stages, decided
    )


def test_rejecting_some_of_a_repeated_defect_raises_its_like(tmp_path: Path) -> None:
    features = with_a_repeated_defect()
    defects, rejected = features.ids[-DEFECTS:], features.ids[-DEFECTS:-2]
    before = ranked(features, tmp_path).fused.scores
    after = ranked(features, tmp_path, dict.fromkeys(rejected, True)).fused.scores
    like = defects[-2:]
    assert all(after.by_id()[i] > before.by_id()[i] for i in like)
    undecided = [i for i in after.ranking() if i not in rejected]
    assert set(undecided[:2]) == set(like)


def test_without_a_decision_the_ranking_is_the_same_to_the_last_bit(tmp_path: Path) -> None:
    features = texture_images(40, odd=3)
    plain, heeding = ranked(features, tmp_path / "a"), ranked(features, tmp_path / "b", {})
    assert (plain.fused.scores.values == heeding.fused.scores.values).all()
    assert (plain.heat == heeding.heat).all()
    assert plain.split.verdict == heeding.split.verdict


def test_a_rejected_image_and_other_photographs_of_it_stand_in_no_bank() -> None:
    features = texture_images(12)
    groups = NearDuplicates(features.ids, np.array([0, 0, 0, *range(3, 12)]))
    kept, barred = _heeded(groups, {"image-000": True, "image-002": False, "image-005": False})
    assert np.flatnonzero(barred).tolist() == [0, 1]
    assert np.flatnonzero(kept).tolist() == [2, 5]
    shard = neighbours.search_shard(features, neighbours.build_pool(features), groups, 0, 12)
    graph = neighbours.join([shard], features)
    without = np.arange(12) > 1
    expected = graph.bank_distance(without)
    heeding = neighbours.NeighbourGraph(graph.ids, graph.offsets, graph.distances, graph.images, barred)
    assert (heeding.bank_distance(np.ones(12, bool)) == expected).all()
    alone = NearDuplicates(features.ids, np.arange(12))
    ruined = heeding.distances.copy()
    ruined[np.isin(heeding.images, [0, 1])] = 0.0  # would make everything look normal, if it counted
    changed = neighbours.NeighbourGraph(graph.ids, graph.offsets, ruined, graph.images, barred)
    scores = [llbnad.neighbour_scores(one).values for one in (heeding, changed)]
    assert (scores[0] == scores[1]).all()
    scores = [llbnad.subset_scores(one, alone).scores.values for one in (heeding, changed)]
    assert (scores[0] == scores[1]).all()


def test_nothing_on_a_kept_image_is_labelled_odd_and_it_stands_in_the_bank() -> None:
    features = texture_images(30, odd=3)
    groups = NearDuplicates(features.ids, np.arange(30))
    shard = neighbours.search_shard(features, neighbours.build_pool(features), groups, 0, 30)
    graph = neighbours.join([shard], features)
    options = FunadOptions(folds=2)
    start = ScoredImages(features.ids, np.r_[np.zeros(27), [9.0] * 3].astype(np.float32)).values
    everything, kept = np.ones(30, bool), np.arange(30) == 29

    def labels(kept: np.ndarray) -> np.ndarray:
        fit = HeadFit(features, graph, everything, options, 0, kept=kept)
        found = np.zeros(features.n_patches, np.float32)
        found[fit._rows] = fit._pseudo_labels(start)
        return found

    own = slice(int(features.offsets[29]), int(features.offsets[30]))
    assert labels(np.zeros(30, bool))[own].max() > 3
    assert labels(kept)[own].max() <= 0


def test_a_set_that_was_rejected_as_a_whole_is_ranked_without_complaint(tmp_path: Path) -> None:
    features = texture_images(6)
    found = ranked(features, tmp_path, dict.fromkeys(features.ids, True))
    assert np.isfinite(found.fused.scores.values).all()
    assert set(found.split.verdict) == {"suspect"}
    assert found.split.contamination.estimate == 1
