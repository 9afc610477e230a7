"""From features to a ranked split: every method in its order, each finished piece checkpointed.

No database and no job here: the service and the benchmarks run exactly this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from siftline.domain import split
from siftline.domain.scores import ImageId, ScoredImages
from siftline.domain.split import Split
from siftline_workers.methods import (
    clusters,
    explanations,
    fusion,
    llbnad,
)
from siftline_workers.methods.explanations import OddestPatches
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad import FunadScores
from siftline_workers.methods.fusion import FusedScores
from siftline_workers.methods.llbnad import SubModel, SubsetScores
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.padim import PlaceScores
from siftline_workers.methods.pieces import Share, alone
from siftline_workers.methods.students import StudentSubModel
from siftline_workers.pipeline import submodels
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints
from siftline_workers.pipeline.descriptions import Basis, Descriptions, described
from siftline_workers.pipeline.graph import Grouped, grouped, neighbour_graph
from siftline_workers.pipeline.learned import Evidence, place_scores, pseudo_label_scores
from siftline_workers.pipeline.stages import Progress, Stages, part

VERSION = 16
"""Part of every checkpoint's key: raise it when a method's outcome changes."""

SHARES = {
    "group": 0.18, "neighbours": 0.22, "llbnad": 0.05, "padim": 0.05, "funad": 0.39,
    "split": 0.03, "explain": 0.08,
}  # fmt: skip
"""Of the time all of them take together, as measured on 518 images with `lite` on two busy cores."""


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

    features: PatchFeatures
    """In few dimensions: those that were searched."""
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
    *,
    basis: Basis | None = None,
    earlier: Descriptions | None = None,
    students: StudentSubModel | None = None,
    share: Share = alone,
) -> Ranking:
    """Score, fuse, split and explain. Deterministic, and the order of the images changes nothing.

    Without a `basis` all images are their own. Of `earlier` images, those of the basis, no features are
    needed: `features` are the later ones'. LLBNAD's sub-models are memories unless `students` are given;
    those are trained through `share`.
    `decided` says of some images whether a person called them anomalous: then they are never evidence of what
    is normal, and otherwise always. An image's own score still comes from what never saw it.
    Whatever `stages` raises to cancel leaves here as it is, with the finished pieces kept.
    """
    basis = basis or Basis(features.n_images, checkpoints)
    seed = options.seed
    with stages.stage("group") as progress:
        found = described(features, basis, earlier, seed=seed, progress=part(progress, 0.0, 0.8))
        reduced = found.projected()
        together = grouped(reduced.ids, found.sketches(), basis, seed)
        groups = together.all
    with stages.stage("neighbours") as progress:
        kept, barred = _heeded(groups, decided or {})
        graph = neighbour_graph(reduced, together, basis, checkpoints, seed=seed, progress=progress)
        graph = replace(graph, barred=barred)
    with stages.stage("llbnad") as progress:
        subset = _subset_scores(graph, groups, options, checkpoints, progress, students=students, share=share)
    every = Evidence(reduced, groups, kept, barred, checkpoints, lambda _progress: (graph, subset.scores))
    # Students know the set they were taught on: with them all is done anew.
    first = every if students else _of_basis(every, together, basis, checkpoints, options)
    with stages.stage("padim") as progress:
        places = place_scores(every, first, seed=seed, progress=progress)
    with stages.stage("funad") as progress:
        pseudo = pseudo_label_scores(
            every,
            first,
            seed=seed,
            progress=progress,
            subsets=options.subsets,
            partitions=options.partitions,
        )
    with stages.stage("split"):
        fused = _fused(graph, groups, subset, places, pseudo)
        outcome = _split(fused, groups, options, decided)
        heat = _heat(subset, places, pseudo)
    with stages.stage("explain") as progress:
        looks_clean = np.array([verdict == "clean" for verdict in outcome.verdict])
        oddest = explanations.oddest_patches(
            reduced, graph, groups, heat, looks_clean, on_progress=part(progress, 0.0, 0.8)
        )
        alike = clusters.look_alikes(
            reduced, groups, heat, fused.scores, seed=seed, on_progress=part(progress, 0.8, 1.0)
        )
    return Ranking(reduced, fused, outcome, groups, heat, oddest, alike)


def _of_basis(
    every: Evidence, together: Grouped, basis: Basis, checkpoints: Checkpoints, options: RankOptions
) -> Evidence:
    """Of the basis alone, as if there were no others; all of it, kept with the basis, when there are none."""
    n, groups = basis.images, together.basis
    if n == every.features.n_images:
        return replace(every, pieces=basis.pieces)
    features, barred = every.features.first(n), every.barred[:n]

    def looked_up(progress: Progress) -> tuple[NeighbourGraph, ScoredImages]:
        alone = Grouped(groups, groups)
        graph = neighbour_graph(
            features, alone, basis, checkpoints, seed=options.seed, progress=part(progress, 0.0, 0.6)
        )
        graph = replace(graph, barred=barred)
        return graph, _llbnad(graph, groups, options, part(progress, 0.6, 1.0)).scores

    return Evidence(features, groups, every.kept[:n], barred, basis.pieces, looked_up)


def _heat(subset: SubsetScores, places: PlaceScores, pseudo: FunadScores) -> NDArray[np.float32]:
    """(patches,): what those signals say that look at patches."""
    scores = {"llbnad": subset.patch_scores, "padim": places.patch_scores, "funad": pseudo.patch_scores}
    return fusion.heat_maps(scores)


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
    graph: NeighbourGraph,
    groups: NearDuplicates,
    subset: SubsetScores,
    places: PlaceScores,
    pseudo: FunadScores,
) -> FusedScores:
    signals = {
        "neighbours": llbnad.neighbour_scores(graph),
        "llbnad": subset.scores,
        "llbnad_spread": subset.spread,
        "padim": places.scores,
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


def _llbnad(
    graph: NeighbourGraph,
    groups: NearDuplicates,
    options: RankOptions,
    progress: Progress,
    submodel: SubModel | None = None,
) -> SubsetScores:
    return llbnad.subset_scores(
        graph,
        groups,
        submodel=submodel,
        repeats=options.partitions,
        subsets=options.subsets,
        seed=options.seed,
        on_progress=progress,
    )


def _subset_scores(
    graph: NeighbourGraph,
    groups: NearDuplicates,
    options: RankOptions,
    checkpoints: Checkpoints,
    progress: Progress,
    *,
    students: StudentSubModel | None,
    share: Share,
) -> SubsetScores:
    def ready() -> SubModel | None:
        if students is None:
            return None
        pieces = submodels.planned(
            students,
            groups,
            graph.barred,
            partitions=options.partitions,
            subsets=options.subsets,
            seed=options.seed,
            checkpoints=checkpoints,
        )
        return submodels.trained(pieces, checkpoints, share, progress)

    def score() -> Arrays:
        found = _llbnad(graph, groups, options, progress, ready())
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
