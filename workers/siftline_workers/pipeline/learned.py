"""Signals by models that are trained: on the basis, with which they are kept. Later images are only scored.

No image is scored by a model that saw it or a near-duplicate of it, also not one that came later
(cross_fitting.py). Where one shows that things in different folds are one, a model more is trained for
them. What people decided is part of what a model was trained on: after another decision on the basis it is
trained anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods import cross_fitting, funad, padim
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad import FunadScores, Heads
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.padim import PlaceModels, PlaceScores
from siftline_workers.methods.pooling import pool_images
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints, content_key
from siftline_workers.pipeline.stages import Progress, part


@dataclass(frozen=True, slots=True)
class Evidence:
    """What models are trained on: all images or the basis."""

    features: PatchFeatures
    """Projected ones."""
    groups: NearDuplicates
    kept: NDArray[np.bool_]
    """(n,) images that a person called good."""
    barred: NDArray[np.bool_]
    """(n,) images that never show what is normal."""
    pieces: Checkpoints
    """Where models trained on it are kept."""
    looked_up: Callable[[Progress], tuple[NeighbourGraph, ScoredImages]]
    """Its graph, and the scores that its first memory bank is chosen by: asked for when a head is trained."""


@dataclass(frozen=True, slots=True)
class _Signal:
    name: str
    heeds: Callable[[Evidence], tuple[NDArray[np.bool_], ...]]
    """What of people's decisions its models depend on: the rest must not make it train anew."""
    train: Callable[[Evidence, Progress], Arrays]
    """What is kept of the models: their `fold` (n,) among it."""
    score: Callable[[Arrays, PatchFeatures, NDArray[np.int64], int, Progress], NDArray[np.float32]]
    """By such models, with folds of all images (N,), the patches of those from a position on."""
    apart: Callable[[NDArray[np.bool_], Progress], NDArray[np.float32]]
    """(patches,) of some images (N,), by a model trained on all others."""

    def piece(self, evidence: Evidence, options: Mapping[str, int]) -> str:
        """Its name: what people decided is not in the key of the basis."""
        heeded = [said.tolist() for said in self.heeds(evidence)]
        return f"{self.name}-{content_key({'heeded': heeded, **options}, ())[:12]}"


def place_scores(every: Evidence, first: Evidence, *, seed: int, progress: Progress) -> PlaceScores:
    """`padim.place_scores` of `every` image, by models of the `first` ones."""

    def train(evidence: Evidence, watch: Progress) -> Arrays:
        models = padim.fitted(
            evidence.features, evidence.groups, barred=evidence.barred, seed=seed, on_progress=watch
        )
        return models.arrays()

    def score(
        kept: Arrays, features: PatchFeatures, fold: NDArray[np.int64], start: int, watch: Progress
    ) -> NDArray[np.float32]:
        models = PlaceModels.from_arrays(kept)
        return padim.patch_scores(features, models, fold, start, seed=seed, on_progress=watch)

    def apart(images: NDArray[np.bool_], _watch: Progress) -> NDArray[np.float32]:
        return padim.scored_apart(every.features, images, every.barred, seed=seed)

    signal = _Signal("padim", lambda evidence: (evidence.barred,), train, score, apart)
    rows = _scored(signal, every, first, seed=seed, progress=progress)
    return PlaceScores(ScoredImages(every.features.ids, pool_images(rows, every.features.offsets)), rows)


def pseudo_label_scores(
    every: Evidence, first: Evidence, *, seed: int, progress: Progress, **ranked_by: int
) -> FunadScores:
    """`funad.pseudo_label_scores` of `every` image, by heads trained on the `first` ones, whose first bank
    is chosen by a ranking with the options `ranked_by`.
    """

    def train(evidence: Evidence, watch: Progress) -> Arrays:
        graph, warm_start = evidence.looked_up(part(watch, 0.0, 0.3))
        return funad.trained_heads(
            evidence.features,
            graph,
            evidence.groups,
            warm_start,
            kept=evidence.kept,
            seed=seed,
            on_progress=part(watch, 0.3, 1.0),
        ).arrays()

    def score(
        kept: Arrays, features: PatchFeatures, fold: NDArray[np.int64], start: int, watch: Progress
    ) -> NDArray[np.float32]:
        return funad.patch_scores(features, Heads.from_arrays(kept), fold, start, on_progress=watch)

    def apart(images: NDArray[np.bool_], watch: Progress) -> NDArray[np.float32]:
        graph, warm_start = every.looked_up(watch)
        return funad.scored_apart(
            every.features, graph, images, warm_start, kept=every.kept, seed=seed, on_progress=watch
        )

    signal = _Signal("funad", lambda evidence: (evidence.kept, evidence.barred), train, score, apart)
    rows = _scored(signal, every, first, seed=seed, progress=progress, **ranked_by)
    return FunadScores(ScoredImages(every.features.ids, pool_images(rows, every.features.offsets)), rows)


def _scored(
    signal: _Signal, every: Evidence, first: Evidence, *, seed: int, progress: Progress, **options: int
) -> NDArray[np.float32]:
    """(patches,) of all images."""

    def made() -> Arrays:
        """Models, and what they say of their own images, each by the one that did not see it."""

        def make() -> Arrays:
            models = signal.train(first, part(progress, 0.0, 0.6))
            rows = signal.score(models, first.features, models["fold"], 0, part(progress, 0.6, 0.9))
            return models | {"rows": rows}

        return first.pieces.once(signal.piece(first, options), make)

    piece = made()
    if first.features is every.features:
        return piece["rows"]
    fold, apart = cross_fitting.folds_with_later_ones(piece["fold"], ~first.barred, every.groups, seed)
    later = signal.score(piece, every.features, fold, len(piece["fold"]), part(progress, 0.9, 0.95))
    rows = np.concatenate([piece["rows"], later])
    if not apart.any():
        return rows
    of_apart = np.repeat(apart, np.diff(every.features.offsets))
    return np.where(of_apart, signal.apart(apart, part(progress, 0.95, 1.0)), rows)
