"""Distillation students as LLBNAD's sub-models."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from siftline_workers.methods import llbnad
from siftline_workers.methods.distillation import Stages
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.parallel import for_each_long
from siftline_workers.methods.seeding import Progress, ignore_progress
from siftline_workers.methods.students import StudentSubModel
from siftline_workers.pipeline import stages as pipeline_stages
from siftline_workers.pipeline.checkpoints import Checkpoints
from siftline_workers.pipeline.ranking import SHARES, RankOptions, rank
from tests.unit.methods.synthetic import SIDE, texture_images

STAGES = Stages(indices=(0, 1, 2), channels=(4, 6, 8), sides=(16, 8, 4), bottleneck=12)
GRID = 4
N = 12
ODD = 11  # carries a corner like no other


@pytest.fixture(scope="module")
def features() -> PatchFeatures:
    """N images of one texture, as rows a teacher would give; image 3 is two tiles wide."""
    random = np.random.default_rng(0)
    tiles = []
    for i in [*range(N), 3]:
        maps = []
        for c, side in zip(STAGES.channels, STAGES.sides, strict=True):
            layout = np.random.default_rng(side).normal(size=(side, side, c))
            kept = layout + 0.1 * random.normal(size=(side, side, c))
            if i == ODD:
                kept[: side // 2, : side // 2] *= -1
            maps.append(kept.reshape(-1))
        tiles.append(np.concatenate(maps))
    rows = [*range(4), 12, *range(4, N)]  # the extra tile stands with its image
    patches = np.array(tiles, np.float16)[rows]
    grids = np.ones((N, 2), np.int32)
    grids[3, 1] = 2
    offsets = np.concatenate([[0], np.cumsum(grids.prod(1))]).astype(np.int64)
    return PatchFeatures(tuple(f"i{i:02d}" for i in range(N)), patches, offsets, grids)


def patch_graph(features: PatchFeatures) -> Any:
    """What `subset_scores` reads of a graph when it is given a sub-model."""
    offsets = features.offsets * GRID**2
    return SimpleNamespace(ids=features.ids, offsets=offsets, distances=np.zeros((offsets[-1], 1)))


def scored(features: PatchFeatures) -> llbnad.SubsetScores:
    duplicates = NearDuplicates(features.ids, np.arange(N))
    student = StudentSubModel(features, STAGES, GRID, steps=100)
    return llbnad.subset_scores(patch_graph(features), duplicates, submodel=student, repeats=1, subsets=2)


def test_an_odd_image_scores_highest_and_at_its_odd_place(features: PatchFeatures) -> None:
    found = scored(features)
    assert found.scores.ranking()[0] == f"i{ODD:02d}"
    odd = found.patch_scores[features.offsets[ODD] * GRID**2 :]
    assert int(odd.argmax()) in {0, 1, 4, 5}
    assert np.isfinite(found.spread.values).all()


def test_a_wide_image_has_its_tiles_side_by_side(features: PatchFeatures) -> None:
    student = StudentSubModel(features, STAGES, GRID, steps=2)
    everyone = np.ones(N, bool)
    patches = student(everyone, ignore_progress)
    assert patches.shape == (features.n_patches * GRID**2,)
    wide = patches[3 * GRID**2 : 5 * GRID**2].reshape(GRID, 2 * GRID)
    halves = PatchFeatures(
        tuple(f"t{i}" for i in range(2)), features.of(3), np.arange(3), np.ones((2, 2), np.int32)
    )
    alone = student._trained(everyone, ignore_progress)
    for k in range(2):
        tile = StudentSubModel(halves, STAGES, GRID)._patch_scores(k, alone).reshape(GRID, GRID)
        assert np.allclose(wide[:, k * GRID : (k + 1) * GRID], tile, atol=1e-4)


def test_a_student_follows_from_its_members_ids_alone(features: PatchFeatures) -> None:
    members = np.arange(N) % 2 == 0
    student = StudentSubModel(features, STAGES, GRID, steps=3)
    before = student(members, ignore_progress)
    changed = features.patches.copy()
    strangers = ~members[features.image_index]
    changed[strangers] += 1
    other = PatchFeatures(features.ids, changed, features.offsets, features.grids)
    after = StudentSubModel(other, STAGES, GRID, steps=3)(members, ignore_progress)
    rows = np.repeat(~strangers, GRID**2)
    assert np.array_equal(before[rows], after[rows])
    assert not np.array_equal(before[~rows], after[~rows])


def test_a_student_tells_how_far_it_is(features: PatchFeatures) -> None:
    told: list[float] = []
    StudentSubModel(features, STAGES, GRID, steps=3)(np.arange(N) < 6, told.append)
    assert told == sorted(set(told))
    assert (told[0], len(told)) == (0.0, 3 + N)


def test_long_work_is_told_of_before_it_is_done() -> None:
    told: list[float] = []
    heard = threading.Event()

    def hear(share: float) -> None:
        told.append(share)
        if share == 0.75:
            heard.set()

    def work(which: int, progress: Progress) -> None:
        progress(0.5)
        assert which == 0 or heard.wait(120)

    for_each_long(work, 2, hear)
    assert told[-1] == 1.0


def test_no_student_scores_what_it_was_trained_on(features: PatchFeatures) -> None:
    """Image 0 and its twin share a subset: only the student of the others may speak of them."""
    groups = np.array([0, 0, *range(2, N)])
    asked: list[NDArray[np.bool_]] = []

    def tell_members(members: NDArray[np.bool_], _progress: object) -> NDArray[np.float32]:
        asked.append(members)
        own = np.repeat(members[features.image_index], GRID**2)
        return np.where(own, 1e6, np.random.default_rng(0).random(len(own))).astype(np.float32)

    duplicates = NearDuplicates(features.ids, groups)
    found = llbnad.subset_scores(
        patch_graph(features), duplicates, submodel=tell_members, repeats=2, subsets=3
    )
    assert len(asked) == 6
    assert all(members[0] == members[1] for members in asked)
    assert found.patch_scores.max() < 100
    assert np.abs(found.scores.values).max() < 100


def test_cancelling_stops_the_students(features: PatchFeatures) -> None:
    class Cancelled(Exception):
        pass

    def cancel(_share: float) -> None:
        raise Cancelled

    student = StudentSubModel(features, STAGES, GRID, steps=10**6)
    with pytest.raises(Cancelled):
        llbnad.subset_scores(
            patch_graph(features),
            NearDuplicates(features.ids, np.arange(N)),
            submodel=student,
            on_progress=cancel,
        )


def test_a_subset_of_one_tile_still_makes_a_student(features: PatchFeatures) -> None:
    student = StudentSubModel(features, STAGES, GRID, steps=3)
    assert np.isfinite(student(np.arange(N) == 5, ignore_progress)).all()


def test_a_barred_image_teaches_no_student(features: PatchFeatures) -> None:
    members, barred = np.arange(N) % 2 == 0, np.arange(N) == 4
    student = StudentSubModel(features, STAGES, GRID, steps=3, barred=barred)
    without = StudentSubModel(features, STAGES, GRID, steps=3)(members & ~barred, ignore_progress)
    assert np.array_equal(student(members, ignore_progress), without)
    assert not student(barred, ignore_progress).any()


def test_a_ranking_asks_students_where_they_are_wanted(features: PatchFeatures, tmp_path: Path) -> None:
    patches = texture_images(N, odd=1)
    named = PatchFeatures(patches.ids, features.patches[:N], np.arange(N + 1), np.ones((N, 2), np.int32))
    students = StudentSubModel(named, STAGES, SIDE, steps=3)
    signals = {}
    for name, taught in (("memory", None), ("student", students)):
        stages = pipeline_stages.Stages(SHARES, lambda _stage, _share: None)
        options = RankOptions(subsets=2, partitions=1)
        ranking = rank(patches, options, Checkpoints(tmp_path, name), stages, students=taught)
        signals[name] = ranking.fused.signals
    assert (signals["memory"]["neighbours"].values == signals["student"]["neighbours"].values).all()
    assert (signals["memory"]["llbnad"].values != signals["student"]["llbnad"].values).any()
    assert np.isfinite(signals["student"]["llbnad"].values).all()
