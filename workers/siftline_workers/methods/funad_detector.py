"""FUN-AD as a detector of a purified set: memory and head on a frozen backbone, cross-conformal scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.backbones import Backbone, Preset, load_backbone, load_embedder
from siftline_workers.methods.detectors import Budget, Keeper, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.funad_detector_data import FunadData, prepare, tiles_of
from siftline_workers.methods.funad_detector_head import HeadOptions, HeadTraining
from siftline_workers.methods.funad_detector_network import FunadNetwork, FunadScorer
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.seeding import Progress

_FOLDS = 5
_LEAST_THINGS = 2 * _FOLDS
_PREPARED, _FINAL, _CROSS_FITTED = 0.4, 0.55, 0.9  # shares of the time done, as measured


class Funad:
    """Fulfils `detectors.Method`."""

    def extractor(self, preset: Preset, weights: Path | None, device: str) -> Backbone:
        return load_backbone(preset, weights, device)

    def train(
        self,
        data: TrainingSet,
        preset: Preset,
        weights: Path | None,
        options: Mapping[str, Any],
        *,
        seed: int,
        budget: Budget,
        keeper: Keeper,
        on_progress: Progress,
    ) -> Trained:
        """As `detectors.Method.train`. Calibration: each fold is scored by memory and head of the others."""
        fold = _folds(data, seed)
        prepared = prepare(data, preset.grid, seed, keeper, lambda share: on_progress(_PREPARED * share))
        chosen = HeadOptions() if budget.max_steps is None else HeadOptions(steps=budget.max_steps)
        everyone = np.ones(len(fold), bool)
        final = HeadTraining(prepared, everyone, chosen, keeper, seed=seed, name="final")
        _train([final], budget.out_of_time, _between(on_progress, _PREPARED, _FINAL))
        # As long as the final one went: they stand for it.
        chosen = replace(chosen, steps=final.step)
        others = [
            HeadTraining(prepared, fold != f, chosen, keeper, seed=seed + 1 + f, name=f"fold-{f}")
            for f in range(_FOLDS)
        ]
        _train(others, lambda: False, _between(on_progress, _FINAL, _CROSS_FITTED))
        scores = _scores(
            prepared, fold, [head.scorer() for head in others], _between(on_progress, _CROSS_FITTED, 1.0)
        )
        scorer = final.scorer()
        return Trained(
            module=FunadNetwork(load_embedder(preset, weights), scorer).eval(),
            weights={name: t.detach().clone() for name, t in scorer.state_dict().items()},
            out_of_fold=ScoredImages(data.features.ids, scores),
            in_sample=False,
            calibrated_by=f"{_FOLDS}-fold cross-conformal",
            curve=tuple(final.curve),
        )


FUNAD = Funad()


def _folds(data: TrainingSet, seed: int) -> NDArray[np.int64]:
    """(N,) fold of each image. TooFewImages."""
    things = len(np.unique(data.groups.group))
    if things < _LEAST_THINGS:
        raise TooFewImages(
            f"FUN-AD needs images of at least {_LEAST_THINGS} different things to train on, "
            f"these are of {things}"
        )
    return subsets_of(data.groups, _FOLDS, 0, seed + 1)


def _between(on_progress: Progress, begin: float, end: float) -> Progress:
    return lambda share: on_progress(begin + (end - begin) * share)


def _train(heads: list[HeadTraining], out_of_time: Callable[[], bool], on_progress: Progress) -> None:
    """All side by side. `on_progress` is called in this thread; when it raises, the heads stop."""
    stopped = Event()

    def run(which: int) -> None:
        def on_step(_step: int) -> None:
            if stopped.is_set():
                raise InterruptedError

        heads[which].run(out_of_time, on_step)

    def watch(_share: float) -> None:
        try:
            on_progress(sum(head.step for head in heads) / sum(head.options.steps for head in heads))
        except BaseException:
            stopped.set()
            raise

    for_each(run, 0, len(heads), watch)


def _scores(
    prepared: FunadData, fold: NDArray[np.int64], scorers: list[FunadScorer], on_progress: Progress
) -> NDArray[np.float32]:
    """(N,): each image's largest tile score, by the scorer whose fold the image is in."""
    scores = np.zeros(len(fold), np.float32)

    def score(i: int) -> None:
        with torch.inference_mode():
            tiles = tiles_of(prepared.features, i, prepared.descriptor.grid)
            scores[i] = float(scorers[fold[i]](tiles)[1].max())

    for_each(score, 0, len(fold), on_progress)
    return scores
