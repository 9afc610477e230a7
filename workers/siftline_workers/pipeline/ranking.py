"""From features to a ranked split: every method in its order, each finished piece checkpointed.

No database and no job here: the service and the benchmarks run exactly this.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from siftline.domain import split
from siftline.domain.scores import ImageId, ScoredImages
from siftline.domain.split import Split
from siftline_workers.methods import (
    clusters,
    explanations,
    funad,
    fusion,
    llbnad,
    near_duplicates,
    neighbours,
    projection,
)
from siftline_workers.methods.explanations import OddestPatches
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad import FunadScores
from siftline_workers.methods.fusion import FusedScores
from siftline_workers.methods.llbnad import SubsetScores
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, NeighbourShard
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints
from siftline_workers.pipeline.stages import Progress, Stages

VERSION = 5
"""Part of every checkpoint's key: raise it when a method's outcome changes."""

SHARES = {"group": 0.26, "neighbours": 0.25, "llbnad": 0.04, "funad": 0.34, "split": 0.03, "explain": 0.08}
"""Of the time all of them take together, as measured on 738 images with `lite` on two busy cores."""

_IMAGES_PER_SHARD = 128


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What a user may choose of the ranking; `schemas.PurifyOptions` documents each."""

    seed: int = 0
    subsets: int = 5
    partitions: int = 4
    cost_ratio: float = 4.0
    contamination_hint: float | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The outcome for N images, in the order of the features' ids."""

    fused: FusedScores
    split: Split
    groups: NearDuplicates
    heat: NDArray[np.float32]
    """(patches,): 0 a typical normal patch, 1 the set's most suspect; rows as in the features."""
    oddest: OddestPatches
    """Why each image stands where it does; its rows are the features'."""
    cluster: NDArray[np.int64]
    """(N,): images that look alike where they are odd share a number, suspect or not."""


def rank(
    features: PatchFeatures,
    options: RankOptions,
    checkpoints: Checkpoints,
    stages: Stages,
    decided: Mapping[ImageId, bool] | None = None,
) -> Ranking:
    """Score, fuse, split and explain. Deterministic; the order of the images changes nothing.

    `decided` says of some images whether a person called them anomalous: then they are never evidence of what
    is normal, and otherwise always. An image's own score still comes from what never saw it.
    Whatever `stages` raises to cancel leaves here as it is, with the finished pieces kept.
    """
    with tempfile.TemporaryFile(dir=checkpoints.folder) as file:
        with stages.stage("group") as progress:
            reduced = _projected(features, file, options.seed, checkpoints, _part(progress, 0.0, 0.5))
            groups = _groups(features, options.seed, checkpoints, _part(progress, 0.5, 1.0))
        with stages.stage("neighbours") as progress:
            kept, barred = _heeded(groups, decided or {})
            graph = _graph(reduced, groups, options.seed, checkpoints, progress)
            graph = replace(graph, barred=barred)
        with stages.stage("llbnad") as progress:
            subset = _subset_scores(graph, groups, options, checkpoints, progress)
        with stages.stage("funad") as progress:
            pseudo = _pseudo_label_scores(
                reduced,
                graph,
                groups,
                subset.scores,
                kept,
                seed=options.seed,
                checkpoints=checkpoints,
                progress=progress,
            )
        with stages.stage("split"):
            fused = _fused(graph, groups, subset, pseudo)
            outcome = _split(fused, groups, options, decided)
            heat = fusion.heat_maps({"llbnad": subset.patch_scores, "funad": pseudo.patch_scores})
        with stages.stage("explain") as progress:
            looks_clean = np.array([verdict == "clean" for verdict in outcome.verdict])
            oddest = explanations.oddest_patches(
                reduced, graph, groups, heat, looks_clean, on_progress=_part(progress, 0.0, 0.8)
            )
            alike = clusters.look_alikes(
                reduced, groups, heat, fused.scores, seed=options.seed, on_progress=_part(progress, 0.8, 1.0)
            )
    return Ranking(fused, outcome, groups, heat, oddest, alike)


def _heeded(
    groups: NearDuplicates, decided: Mapping[ImageId, bool]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(N,) images that always count as normal, and (N,) that never do: rejected ones, and other photographs
    of what they show unless a person kept those.
    """
    said = [decided.get(image_id) for image_id in groups.ids]
    kept = np.array([word is False for word in said], bool)
    rejected = np.array([word is True for word in said], bool)
    return kept, np.isin(groups.group, groups.group[rejected]) & ~kept


def _fused(
    graph: NeighbourGraph, groups: NearDuplicates, subset: SubsetScores, pseudo: FunadScores
) -> FusedScores:
    signals = {
        "neighbours": llbnad.neighbour_scores(graph),
        "llbnad": subset.scores,
        "llbnad_spread": subset.spread,
        "funad": pseudo.scores,
    }
    return fusion.fuse(signals, groups)


def _split(
    fused: FusedScores, groups: NearDuplicates, options: RankOptions, decided: Mapping[ImageId, bool] | None
) -> Split:
    return split.decide(
        fused.scores,
        fused.signals,
        cost_ratio=options.cost_ratio,
        prior=options.contamination_hint,
        groups=groups.group.tolist(),
        seed=options.seed,
        decided=decided,
    )


def _part(progress: Progress, begin: float, end: float) -> Progress:
    return lambda fraction: progress(begin + (end - begin) * fraction)


def _projected(
    features: PatchFeatures, file: IO[bytes], seed: int, checkpoints: Checkpoints, progress: Progress
) -> PatchFeatures:
    """The features in fewer dimensions, in `file`: a large set must not fill the memory."""

    def fit() -> Arrays:
        fitted = projection.fit(features, seed=seed)
        return {"mean": fitted.mean, "matrix": fitted.matrix}

    # Kept, so that a resumed run's shards are of the same space to the last bit, on whatever machine.
    kept = checkpoints.once("projection", fit)
    fitted = projection.Projection(mean=kept["mean"], matrix=kept["matrix"])
    shape = (features.n_patches, fitted.matrix.shape[1])
    out = np.memmap(file, dtype=np.float16, mode="r+", shape=shape)
    return projection.project(features, fitted, out=out, on_progress=progress)


def _groups(
    features: PatchFeatures, seed: int, checkpoints: Checkpoints, progress: Progress
) -> NearDuplicates:
    """Of the backbone's own features: projected ones keep what images share, not what tells them apart."""

    def find() -> Arrays:
        return {"group": near_duplicates.find(features, seed=seed, on_progress=progress).group}

    return NearDuplicates(ids=features.ids, group=checkpoints.once("groups", find)["group"])


def _graph(
    reduced: PatchFeatures, groups: NearDuplicates, seed: int, checkpoints: Checkpoints, progress: Progress
) -> NeighbourGraph:
    pool = neighbours.build_pool(reduced, seed=seed)
    n = reduced.n_images

    def shard(start: int) -> NeighbourShard:
        stop = min(start + _IMAGES_PER_SHARD, n)
        on_progress = _part(progress, start / n, stop / n)

        def search() -> Arrays:
            found = neighbours.search_shard(reduced, pool, groups, start, stop, on_progress=on_progress)
            return {"distances": found.distances, "images": found.images}

        kept = checkpoints.once(f"neighbours-{start:07d}", search)
        on_progress(1.0)
        reduced.let_go()
        return NeighbourShard(start, stop, kept["distances"], kept["images"])

    return neighbours.join(map(shard, range(0, n, _IMAGES_PER_SHARD)), reduced)


def _subset_scores(
    graph: NeighbourGraph,
    groups: NearDuplicates,
    options: RankOptions,
    checkpoints: Checkpoints,
    progress: Progress,
) -> SubsetScores:
    def score() -> Arrays:
        found = llbnad.subset_scores(
            graph,
            groups,
            repeats=options.partitions,
            subsets=options.subsets,
            seed=options.seed,
            on_progress=progress,
        )
        return {
            "scores": found.scores.values,
            "spread": found.spread.values,
            "patch_scores": found.patch_scores,
        }

    kept = checkpoints.once("llbnad", score)
    ids = graph.ids
    return SubsetScores(
        ScoredImages(ids, kept["scores"]), ScoredImages(ids, kept["spread"]), kept["patch_scores"]
    )


def _pseudo_label_scores(
    reduced: PatchFeatures,
    graph: NeighbourGraph,
    groups: NearDuplicates,
    warm_start: ScoredImages,
    normal: NDArray[np.bool_],
    *,
    seed: int,
    checkpoints: Checkpoints,
    progress: Progress,
) -> FunadScores:
    def score() -> Arrays:
        found = funad.pseudo_label_scores(
            reduced, graph, groups, warm_start, kept=normal, seed=seed, on_progress=progress
        )
        return {
            "scores": found.scores.values,
            "patch_scores": found.patch_scores,
            "positives": np.array(found.positives),
        }

    kept = checkpoints.once("funad", score)
    return FunadScores(ScoredImages(graph.ids, kept["scores"]), kept["patch_scores"], int(kept["positives"]))
