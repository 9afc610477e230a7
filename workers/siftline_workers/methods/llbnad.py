"""LLBNAD's first stage, corrected: sub-models on disjoint subsets score only images they did not train on.

After Zhang et al., "LLBNAD" (SMC 2025, arXiv 2508.07441), section "subset scoring"; own code. A sub-model
is a memory, the patches of its subset, or a distillation student trained on it (students.py), which is the
paper's way. What differs from the release: scores travel with ids (the release joins by position and trains
on other images than it chose), an image's own subset never scores it, and sub-models are put on one scale
before they are averaged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from siftline.domain.randomness import image_keys
from siftline.domain.scores import ScoredImages
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.parallel import for_each_long
from siftline_workers.methods.pooling import pool_images, robust_z
from siftline_workers.methods.seeding import Progress, ignore_progress

SubModel = Callable[[NDArray[np.bool_], Progress], NDArray[np.float32]]
"""(N,) members -> (patches,) scores by a model of the members alone."""


@dataclass(frozen=True, slots=True)
class SubsetScores:
    """What sub-models that never saw an image say of it."""

    scores: ScoredImages
    """Of the image's mean patch scores. Pooled after averaging: one model's wild patch decides nothing."""
    spread: ScoredImages
    """Standard deviation over sub-models of the image's robust z: an unstable response is LLBNAD's second
    sign of an anomaly.
    """
    patch_scores: NDArray[np.float32]
    """(patches,) mean over sub-models of what each says, in units of its typical patch."""


def neighbour_scores(graph: NeighbourGraph) -> ScoredImages:
    """The plainest signal: distance to the nearest patch of any other thing in the pool."""
    distance = graph.bank_distance(np.ones(len(graph.ids), dtype=bool))
    return ScoredImages(graph.ids, pool_images(distance, graph.offsets))


def subsets_of(groups: NearDuplicates, subsets: int, repeat: int, seed: int) -> NDArray[np.int64]:
    """(N,) subset of each image: near-equal in size, near-duplicates together, by the ids alone.

    Fewer groups than subsets leave some subsets empty.
    """
    keys = image_keys(groups.ids, seed, f"llbnad-{repeat}")
    members = np.unique(groups.group, return_inverse=True)[1]
    smallest_key = np.full(members.max() + 1, np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(smallest_key, members, keys)
    sizes = np.bincount(members)
    before = np.zeros(len(sizes), np.int64)
    order = np.argsort(smallest_key, kind="stable")
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    return (before * subsets // len(members))[members]


def subset_scores(
    graph: NeighbourGraph,
    groups: NearDuplicates,
    *,
    submodel: SubModel | None = None,
    repeats: int = 4,
    subsets: int = 5,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> SubsetScores:
    """`repeats` random partitions into `subsets` sub-models: memories in the graph unless `submodel` is
    given. A set too small for a foreign sub-model scores 0.
    """
    ask = submodel or (lambda members, _progress: graph.bank_distance(members))
    n = len(graph.ids)
    total = np.zeros(n)
    squares = np.zeros(n)
    count = np.zeros(n)
    patch_total = np.zeros(len(graph.distances), np.float32)
    patch_image = np.repeat(np.arange(n), np.diff(graph.offsets))
    patch_count = np.zeros(n, np.float32)
    for repeat in range(repeats):
        subset = subsets_of(groups, subsets, repeat, seed)
        useful = [k for k in range(subsets) if (subset == k).any() and (subset != k).any()]
        members = [subset == k for k in useful]
        answers = _all_answers(ask, members, partial(_report, on_progress, repeat, repeats))
        for k, answer in zip(useful, answers, strict=True):
            foreign = subset != k
            distance = answer / _typical(answer[foreign[patch_image]])
            z = np.zeros(n)
            z[foreign] = robust_z(pool_images(distance, graph.offsets)[foreign])
            total += z
            squares += z * z
            count += foreign
            patch_total += np.where(foreign[patch_image], distance, 0)
            patch_count += foreign
    count = np.maximum(count, 1)
    mean = total / count
    spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
    patch_scores = (patch_total / np.maximum(patch_count, 1)[patch_image]).astype(np.float32)
    return SubsetScores(
        ScoredImages(graph.ids, pool_images(patch_scores, graph.offsets)),
        ScoredImages(graph.ids, spread.astype(np.float32)),
        patch_scores,
    )


def _typical(distances: NDArray[np.float32]) -> float:
    """Their median; 1 where that is nothing."""
    median = float(np.median(distances))
    return median if median > 0 else 1.0


def _report(on_progress: Progress, repeat: int, repeats: int, share: float) -> None:
    on_progress((repeat + share) / repeats)


def _all_answers(
    ask: SubModel, members: list[NDArray[np.bool_]], on_progress: Progress
) -> list[NDArray[np.float32]]:
    """Of sub-models side by side. When `on_progress` raises, they are stopped."""
    answers = [np.zeros(0, np.float32)] * len(members)

    def answer(i: int, progress: Progress) -> None:
        answers[i] = ask(members[i], progress)

    for_each_long(answer, len(members), on_progress)
    return answers
