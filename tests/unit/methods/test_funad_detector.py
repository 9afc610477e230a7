"""FUN-AD's detector when its time is short, on made-up patches."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from siftline_workers.methods.backbones import PRESETS
from siftline_workers.methods.detectors import Budget, Trained, TrainingSet
from siftline_workers.methods.funad_detector import FUNAD
from siftline_workers.methods.funad_detector_data import draw, of_images
from siftline_workers.methods.funad_detector_head import HeadOptions, HeadTraining
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.seeding import ignore_progress
from tests.memory_keeper import MemoryKeeper
from tests.unit.methods.synthetic import SIDE, texture_images

SEED, STEPS = 3, 23


def out_after(steps: int) -> Callable[[], bool]:
    """Time that is over once it was asked for so often: it is, after every step."""
    asked = iter(range(1, steps))
    return lambda: next(asked, None) is None


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    features = texture_images(20)
    return TrainingSet(features, NearDuplicates(features.ids, np.arange(features.n_images)))


@pytest.fixture(scope="module")
def kept() -> MemoryKeeper:
    """What `hurried` left with its keeper."""
    return MemoryKeeper()


@pytest.fixture(scope="module")
def hurried(data: TrainingSet, kept: MemoryKeeper) -> Trained:
    return FUNAD.train(
        data, replace(PRESETS["lite"], grid=SIDE), None, {}, seed=SEED, budget=Budget(None, out_after(STEPS)),
        keeper=kept, on_progress=ignore_progress,
    )  # fmt: skip


@pytest.mark.usefixtures("hurried")
def test_heads_that_calibrate_take_the_course_that_the_final_one_was_cut_on(
    data: TrainingSet, kept: MemoryKeeper
) -> None:
    """With its steps as the whole of theirs, their rate had fallen to zero where its had hardly begun to."""
    others = subsets_of(data.groups, 5, 0, SEED + 1) != 0
    sample = draw(data, SIDE, SEED, ignore_progress)
    seen = of_images(sample, others, MemoryKeeper(), seed=SEED, name="alone", on_progress=ignore_progress)
    alone = MemoryKeeper()
    head = HeadTraining(seen, HeadOptions(), alone, seed=SEED, name="alone")
    head.run(out_after(STEPS), lambda _step: None)
    assert kept["fold-0"]["step"].tolist() == kept["final"]["step"].tolist() == [STEPS, True]
    for name, array in alone["alone"].items():
        assert np.array_equal(kept["fold-0"][name], array), name


def test_the_curve_tells_of_every_step(hurried: Trained) -> None:
    assert [point.step for point in hurried.curve] == [20, STEPS]


def test_it_is_calibrated_on_all_images(data: TrainingSet, hurried: Trained) -> None:
    assert hurried.out_of_fold.ids == data.features.ids
    assert np.isfinite(hurried.out_of_fold.values).all()
