"""Cross-domain distillation with a tiny teacher on made-up pictures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from siftline_workers.methods import cdd_training
from siftline_workers.methods.backbones import Backbone, custom
from siftline_workers.methods.cdd import CDD
from siftline_workers.methods.cdd_training import CddOptions, Epoch, Training
from siftline_workers.methods.detectors import Budget, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.distillation import stages_of
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from tests.memory_keeper import MemoryKeeper

TINY = replace(custom("test_efficientnet"), side=64)
N = 18
SHORT = {"epochs": 2, "batch": 6, "domains": 2, "trim": 0.2}


@pytest.fixture(scope="module")
def tiles() -> NDArray[np.uint8]:
    """(N + 1, 64, 64, 3): the last two belong to one image."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (N + 1, 8, 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(TINY.timm_name, pretrained=False, num_classes=3)
    path: Path = tmp_path_factory.mktemp("weights") / "test_efficientnet.safetensors"
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def extractor(weights: Path) -> Backbone:
    return CDD.extractor(TINY, weights, "cpu")


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def train(weights: Path) -> Train:
    def run(data: TrainingSet, options: Mapping[str, Any] = SHORT, **changes: Any) -> Trained:
        given: dict[str, Any] = {
            "seed": 0, "budget": Budget(), "keeper": MemoryKeeper(), "on_progress": lambda _share: None,
        }  # fmt: skip
        return CDD.train(data, TINY, weights, options, **(given | changes))

    return run


@pytest.fixture(scope="module")
def data(extractor: Backbone, tiles: NDArray[np.uint8]) -> TrainingSet:
    """N images; 0 and 1 are of one thing; the last is two tiles wide."""
    rows = extractor.patch_features(tiles)[:, 0]
    grids = np.ones((N, 2), np.int32)
    grids[-1, 1] = 2
    ids = tuple(f"image-{i:02d}" for i in range(N))
    features = PatchFeatures(ids, rows, np.append(np.arange(N), N + 1), grids)
    return TrainingSet(features, NearDuplicates(ids, np.array([0, 0, *range(2, N)])))


@pytest.fixture(scope="module")
def trained(train: Train, data: TrainingSet) -> Trained:
    return train(data)


def same_bits(one: Trained, other: Trained) -> bool:
    return (
        all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)
        and one.out_of_fold.by_id() == other.out_of_fold.by_id()
        and one.curve == other.curve
    )


def test_the_features_are_one_row_a_tile(extractor: Backbone) -> None:
    assert extractor.dim == stages_of(TINY).dim
    assert extractor.embed(np.zeros((100, 400, 3), np.uint8)).shape == (1, 4, extractor.dim)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_killed_and_resumed_is_as_undisturbed_bit_for_bit(
    train: Train, share: float, data: TrainingSet, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cdd_training, "_SAVE_EVERY_S", 0.0)
    keeper = MemoryKeeper()

    def kill(done: float) -> None:
        if done > share and keeper:  # progress is told within a piece, too, before anything is kept
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train(data, keeper=keeper, on_progress=kill)
    seen: list[float] = []
    resumed = train(data, keeper=keeper, on_progress=seen.append)
    assert same_bits(resumed, trained)
    assert seen[0] >= share - 0.1


def test_a_finished_training_that_died_before_it_was_told_is_not_done_again(
    train: Train, data: TrainingSet, trained: Trained
) -> None:
    keeper = MemoryKeeper()
    train(data, keeper=keeper)
    seen: list[float] = []
    assert same_bits(train(data, keeper=keeper, on_progress=seen.append), trained)
    assert min(seen) > 0.9


def test_the_order_of_the_images_changes_nothing(train: Train, data: TrainingSet, trained: Trained) -> None:
    features = data.features
    backwards = list(range(N))[::-1]
    turned = PatchFeatures.from_grids(
        [features.ids[i] for i in backwards],
        [features.of(i).reshape(*features.grid(i), -1) for i in backwards],
    )
    group = np.array([backwards.index(data.groups.group[i]) for i in backwards])
    assert same_bits(train(TrainingSet(turned, NearDuplicates(turned.ids, group))), trained)


def test_calibration_images_are_never_learned_from(train: Train, data: TrainingSet, trained: Trained) -> None:
    held_out = [data.features.ids.index(i) for i in trained.out_of_fold.ids]
    assert 1 <= len(held_out) <= N // 3
    assert not trained.in_sample
    changed = data.features.patches.copy()
    for i in held_out:
        changed[data.features.offsets[i] : data.features.offsets[i + 1]] = 0.5
    features = PatchFeatures(data.features.ids, changed, data.features.offsets, data.features.grids)
    again = train(TrainingSet(features, data.groups))
    assert all(torch.equal(again.weights[name], trained.weights[name]) for name in trained.weights)
    assert again.out_of_fold.by_id() != trained.out_of_fold.by_id()


def test_calibration_scores_are_the_modules(
    data: TrainingSet, tiles: NDArray[np.uint8], trained: Trained
) -> None:
    for image_id, score in trained.out_of_fold.by_id().items():
        i = data.features.ids.index(image_id)
        own = tiles[data.features.offsets[i] : data.features.offsets[i + 1]]
        maps, scores = trained.module(torch.from_numpy(own))
        assert float(scores.max()) == pytest.approx(score, abs=2e-3)
        assert torch.equal(maps.amax((1, 2)), scores)


@pytest.mark.parametrize("seed", range(4))
def test_photographs_of_one_thing_share_domain_and_fold(seed: int, data: TrainingSet) -> None:
    training = Training(data, np.arange(N), stages_of(TINY), CddOptions(redraw=True), seed)
    domain = Epoch(training).domain
    assert domain[0] == domain[1]
    sizes = np.bincount(domain)
    assert len(sizes) == 3
    assert sizes.max() - sizes.min() <= 3
    training.epoch = 1
    assert not np.array_equal(Epoch(training).domain, domain)


def test_fixed_domains_stay(data: TrainingSet) -> None:
    training = Training(data, np.arange(N), stages_of(TINY), CddOptions(), 0)
    before = Epoch(training).domain
    training.epoch = 1
    assert np.array_equal(Epoch(training).domain, before)


def test_the_most_suspect_of_a_domain_are_not_taught_to_its_student(data: TrainingSet) -> None:
    training = Training(data, np.arange(N), stages_of(TINY), CddOptions(trim=0.2, batch=4), 0)
    training.outside[:] = np.random.default_rng(0).permutation(N + 1)
    first = Epoch(training)
    assert taught(first) == set(range(N + 1))
    training.epoch = 1
    epoch = Epoch(training)
    missing = sorted(set(range(N + 1)) - taught(epoch))
    assert 3 <= len(missing) <= 4
    for row in missing:
        kept = [r for r in taught(epoch) if epoch.domain[r] == epoch.domain[row]]
        assert training.outside[row] >= max(training.outside[kept]) or training.image[row] == N - 1


def taught(epoch: Epoch) -> set[int]:
    return {int(r) for turn in epoch.turns[: epoch.first_whole] for _, rows in turn for r in rows}


def test_without_aggregation_it_is_reverse_distillation(train: Train, data: TrainingSet) -> None:
    training = Training(data, np.arange(N), stages_of(TINY), CddOptions(aggregation=False, batch=4), 0)
    assert training.of_domain == []
    assert Epoch(training).first_whole == 0
    plain = train(data, {"aggregation": False, "epochs": 6, "batch": 4})
    assert plain.curve[-1].loss < 0.6 * plain.curve[0].loss


def test_the_global_student_learns_of_suspects_what_other_domains_draw(data: TrainingSet) -> None:
    training = Training(data, np.arange(N), stages_of(TINY), CddOptions(trim=0.2, batch=4), 0)
    training.outside[:] = np.random.default_rng(0).permutation(N + 1)
    assert not Epoch(training).teaches, "nobody is known to be suspect yet"
    training.epoch = 1
    epoch = Epoch(training)
    assert set(np.flatnonzero(epoch.redrawn)) == set(range(N + 1)) - taught(epoch)
    turn = epoch.first_whole
    rows = epoch.turns[turn][0][1]
    for target, seen in zip(epoch._ready_targets(turn), training.maps(rows), strict=True):
        alike = [torch.equal(a, b) for a, b in zip(target, seen, strict=True)]
        assert alike == (~epoch.redrawn[rows]).tolist()


@pytest.mark.parametrize(
    "choice", [{"redraw": True}, {"targets": "all"}, {"teacher_weight": 0.5}, {"trim": 0.0}, {"seed": 1}]
)
def test_every_choice_trains_and_matters(
    train: Train, choice: dict[str, Any], data: TrainingSet, trained: Trained
) -> None:
    other = train(data, SHORT | choice, seed=choice.get("seed", 0))
    assert np.isfinite(other.out_of_fold.values).all()
    assert not same_bits(other, trained)


def test_the_budget_in_steps_is_kept(train: Train, data: TrainingSet) -> None:
    assert [p.step for p in train(data, budget=Budget(max_steps=3)).curve] == [1, 2, 3]


def test_without_time_there_is_still_a_calibrated_detector(train: Train, data: TrainingSet) -> None:
    hasty = train(data, budget=Budget(out_of_time=lambda: True))
    assert len(hasty.curve) == 1
    assert np.isfinite(hasty.out_of_fold.values).all()


def test_too_few_images_are_refused_with_the_number_needed(train: Train, data: TrainingSet) -> None:
    ids = data.features.ids[:5]
    few = PatchFeatures(ids, data.features.patches[:5], np.arange(6), np.ones((5, 2), np.int32))
    with pytest.raises(TooFewImages, match=r"5 images of 5 different things.*at least 6 things"):
        train(TrainingSet(few, NearDuplicates(ids, np.arange(5))), {"domains": 3})
    one_thing = NearDuplicates(data.features.ids, np.zeros(N, np.int64))
    with pytest.raises(TooFewImages, match="1 different things"):
        train(TrainingSet(data.features, one_thing))
