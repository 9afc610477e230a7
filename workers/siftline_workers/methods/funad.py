"""FUN-AD's pseudo-labelling on frozen features: a head trained on what an iterated memory bank suspects.

After Im, Son and Hong, "FUN-AD: Fully Unsupervised Learning for Anomaly Detection with Noisy Training Data"
(WACV 2025, arXiv 2411.16110), sections on the iteratively re-constructed memory bank and mutual smoothness;
own code, nothing copied. Departures, argued here or measured in benchmarks/LOG.md:
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

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.features import LET_GO_IMAGES, PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions, Head, HeadFit
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


@dataclass(frozen=True, slots=True)
class Heads:
    """A trained head for each fold, which saw only images outside it."""

    fold: NDArray[np.int64]
    """(n,) of the images they were trained on."""
    heads: tuple[Head, ...]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To keep them."""
        states = {f"{f}.{k}": v.numpy() for f, head in enumerate(self.heads) for k, v in _state(head).items()}
        return {"fold": self.fold} | states

    @classmethod
    def from_arrays(cls, kept: Mapping[str, NDArray[Any]]) -> Heads:
        """What `arrays` gave; there may be others beside them."""
        heads: list[Head] = []
        while f"{len(heads)}.mean" in kept:
            prefix = f"{len(heads)}."
            own = {
                k.removeprefix(prefix): torch.from_numpy(v) for k, v in kept.items() if k.startswith(prefix)
            }
            head = Head(len(own["mean"]))
            head.load_state_dict(own)
            heads.append(head)
        return cls(kept["fold"], tuple(heads))


def _state(head: Head) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in head.state_dict().items()}


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
    trained = trained_heads(
        features,
        graph,
        groups,
        warm_start,
        kept=kept,
        options=options,
        seed=seed,
        on_progress=lambda share: on_progress(0.9 * share),
    )
    rows = patch_scores(features, trained, trained.fold, on_progress=lambda p: on_progress(0.9 + 0.1 * p))
    return FunadScores(ScoredImages(features.ids, pool_images(rows, features.offsets)), rows)


def trained_heads(
    features: PatchFeatures,
    graph: NeighbourGraph,
    groups: NearDuplicates,
    warm_start: ScoredImages,
    *,
    kept: NDArray[np.bool_] | None = None,
    options: FunadOptions | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> Heads:
    """The heads of `pseudo_label_scores`."""
    options = options or FunadOptions()
    fold = subsets_of(groups, options.folds, 0, seed + 1)
    start = warm_start.aligned_to(features.ids)
    fits = [HeadFit(features, graph, fold != f, options, seed, kept=kept) for f in range(options.folds)]
    _run_all(fits, start, options, on_progress)
    return Heads(fold, tuple(fit.head for fit in fits))


def scored_apart(
    features: PatchFeatures,
    graph: NeighbourGraph,
    apart: NDArray[np.bool_],
    warm_start: ScoredImages,
    *,
    kept: NDArray[np.bool_],
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """(patches,) of the images `apart` (N,), by a head trained on all others; 0 elsewhere."""
    options = FunadOptions()
    fit = HeadFit(features, graph, ~apart, options, seed, kept=kept)
    _run_all([fit], warm_start.aligned_to(features.ids), options, on_progress)
    rows = np.zeros(features.n_patches, np.float32)
    for i in np.flatnonzero(apart):
        rows[features.offsets[i] : features.offsets[i + 1]] = fit.head.predict(features.of(int(i)))
    return rows


def patch_scores(
    features: PatchFeatures,
    trained: Heads,
    fold: NDArray[np.int64],
    start: int = 0,
    *,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """Of the patches of all images from `start` on, each by the head that its fold (N,) was kept from."""
    first = features.offsets[start]
    rows = np.zeros(features.n_patches - first, np.float32)

    def predict(i: int) -> None:
        own = slice(features.offsets[i] - first, features.offsets[i + 1] - first)
        rows[own] = trained.heads[fold[i]].predict(features.of(i))
        if i % LET_GO_IMAGES == 0:
            features.let_go()

    # Not in this thread: torch would spread each of these small products over all cores.
    for_each(predict, start, features.n_images, on_progress)
    return rows


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
