"""FUN-AD's pseudo-labelling on frozen features: a head trained on what an iterated memory bank suspects.

After Im, Son and Hong, "FUN-AD: Fully Unsupervised Learning for Anomaly Detection with Noisy Training Data"
(WACV 2025, arXiv 2411.16110), sections on the iteratively re-constructed memory bank and mutual smoothness;
own code, nothing copied. Departures, each argued in methods-reference 1.7 or measured in benchmarks/LOG.md:
- Labels come from a robust scale of the whole set (the release's minimum and maximum of a batch always find
  an anomaly), and stay soft: the log distance itself, by squared error, as MeDS distils its memories
  (Safarov et al., ICML 2026, arXiv 2605.26676). Hard labels at a threshold ranked worse on every
  development set.
- An image's own patches never stand in the bank it is compared with, and heads are cross-fitted: no image is
  scored by a head that saw it or a near-duplicate.
- The first bank comes from a ranking, not from a random head; the last head counts, none is chosen by
  results.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Event

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.features import LET_GO_IMAGES, PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions, HeadFit
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pooling import pool_images
from siftline_workers.methods.seeding import Progress, ignore_progress


@dataclass(frozen=True, slots=True)
class FunadScores:
    scores: ScoredImages
    patch_scores: NDArray[np.float32]
    """(patches,) by a head that never saw the image: robust standard deviations of a normal patch."""
    positives: int
    """Patches pseudo-labelled clearly anomalous in the last round, over all folds."""


def pseudo_label_scores(
    features: PatchFeatures,
    graph: NeighbourGraph,
    groups: NearDuplicates,
    warm_start: ScoredImages,
    *,
    kept: NDArray[np.bool_] | None = None,
    options: FunadOptions | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> FunadScores:
    """Cross-fitted scores of all images. `features` are projected ones, `warm_start` ranks the first bank.

    Images that a person has kept (N,) always stand in the bank, those that `graph` bars never.
    """
    options = options or FunadOptions()
    fold = subsets_of(groups, options.folds, 0, seed + 1)
    start = warm_start.aligned_to(features.ids)
    rows = np.zeros(features.n_patches, np.float32)
    fits = [HeadFit(features, graph, fold != f, options, seed, kept=kept) for f in range(options.folds)]
    _run_all(fits, start, options, lambda share: on_progress(0.9 * share))

    def predict(i: int) -> None:
        rows[features.offsets[i] : features.offsets[i + 1]] = fits[fold[i]].predict(i)
        if i % LET_GO_IMAGES == 0:
            features.let_go()

    # Not in this thread: torch would spread each of these small products over all cores.
    for_each(predict, 0, features.n_images, lambda share: on_progress(0.9 + 0.1 * share))
    scores = pool_images(rows, features.offsets)
    return FunadScores(ScoredImages(features.ids, scores), rows, sum(fit.suspected for fit in fits))


def _run_all(
    fits: list[HeadFit], start: NDArray[np.float32], options: FunadOptions, on_progress: Progress
) -> None:
    """All folds side by side. `on_progress` is called in this thread; when it raises, the heads stop."""
    done = [0] * len(fits)
    stopped = Event()

    def run(f: int) -> None:
        def on_step(steps: int) -> None:
            done[f] = steps
            if stopped.is_set():
                raise InterruptedError

        fits[f].run(start, on_step)

    def watch(_share: float) -> None:
        try:
            on_progress(sum(done) / (len(fits) * options.rounds * options.steps))
        except BaseException:
            stopped.set()
            raise

    for_each(run, 0, len(fits), watch)
