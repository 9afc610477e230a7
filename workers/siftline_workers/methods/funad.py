"""FUN-AD's pseudo-labelling on frozen features: a small head trained on what an iterated memory bank suspects.

After Im, Son and Hong, "FUN-AD: Fully Unsupervised Learning for Anomaly Detection with Noisy Training Data"
(WACV 2025, arXiv 2411.16110), sections on the iteratively re-constructed memory bank and mutual smoothness; own
code, nothing copied. Departures, each argued in methods-reference 1.7: labels come from a robust scale of the
whole set (the release's minimum and maximum of a batch always find an anomaly); an image's own patches never
stand in the bank it is compared with; heads are cross-fitted, so no image is scored by a head that saw it or a
near-duplicate; the last head counts, none is chosen by its results.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions, HeadFit
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images
from siftline_workers.methods.seeding import Progress, ignore_progress


@dataclass(frozen=True, slots=True)
class FunadScores:
    scores: ScoredImages
    patch_scores: NDArray[np.float32]
    """(patches,) probability by a head that never saw the image; 0 where nothing was suspected."""
    positives: int
    """Patches pseudo-labelled anomalous in the last round, over all folds. 0: nothing to learn from."""


def pseudo_label_scores(
    features: PatchFeatures,
    graph: NeighbourGraph,
    groups: NearDuplicates,
    warm_start: ScoredImages,
    *,
    options: FunadOptions | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> FunadScores:
    """Cross-fitted scores of all images. `features` are projected ones, `warm_start` ranks the first bank."""
    options = options or FunadOptions()
    fold = subsets_of(groups, options.folds, 0, seed + 1)
    start = warm_start.aligned_to(features.ids)
    rows = np.zeros(features.n_patches, np.float32)
    positives = 0
    for f in range(options.folds):
        fit = HeadFit(features, graph, fold != f, options, seed)

        def step_done(share: float, done: int = f) -> None:
            on_progress((done + share) / options.folds)

        positives += fit.run(start, step_done)
        for i in np.flatnonzero(fold == f) if fit.positives else []:
            rows[features.offsets[i] : features.offsets[i + 1]] = fit.probability(int(i))
    scores = pool_images(rows, features.offsets)
    return FunadScores(ScoredImages(features.ids, scores), rows, positives)
