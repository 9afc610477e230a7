"""FUN-AD as a detector of a purified set: memory, places and head on a frozen backbone, cross-conformal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.backbones import Backbone, Preset, load_backbone, load_embedder
from siftline_workers.methods.detectors import Budget, CurvePoint, Keeper, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.funad_detector_data import Sample, draw, of_images, tiles_of
from siftline_workers.methods.funad_detector_head import HeadOptions, HeadTraining
from siftline_workers.methods.funad_detector_network import FunadNetwork
from siftline_workers.methods.funad_faithful import FaithfulOptions, FaithfulTraining
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pieces import Share, alone
from siftline_workers.methods.seeding import Progress, ignore_progress

_FOLDS = 5
_LEAST_THINGS = 2 * _FOLDS
# Shares of the time done, as measured on 667 images.
_DRAWN, _READY, _FINAL, _COMPARED, _TRAINED = 0.03, 0.08, 0.28, 0.42, 0.9


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
        share: Share = alone,  # noqa: ARG002  # nothing here is worth it yet
    ) -> Trained:
        """As `detectors.Method.train`. With `faithful`, by the release's rules: see funad_faithful."""
        run = _Run(data, preset.grid, _folds(data, seed), seed, budget, keeper, on_progress)
        fitted = run.faithful() if options.get("faithful") else run.cross_fitted()
        return Trained(
            module=FunadNetwork(load_embedder(preset, weights), fitted.scorer).eval(),
            weights={name: t.detach().clone() for name, t in fitted.scorer.state_dict().items()},
            out_of_fold=fitted.out_of_fold,
            in_sample=False,
            calibrated_by=fitted.calibrated_by,
            curve=tuple(fitted.curve),
        )


FUNAD = Funad()


def uncalibrated(data: TrainingSet, preset: Preset, *, seed: int, keeper: Keeper) -> nn.Module:
    """The scorer that `Funad.train` would keep, without the folds that only calibrate it."""
    run = _Run(data, preset.grid, _folds(data, seed), seed, Budget(), keeper, ignore_progress)
    return run.final(draw(data, preset.grid, seed, ignore_progress)).scorer()


def _folds(data: TrainingSet, seed: int) -> NDArray[np.int64]:
    """(N,) fold of each image. TooFewImages."""
    things = len(np.unique(data.groups.group))
    if things < _LEAST_THINGS:
        raise TooFewImages(
            f"FUN-AD needs images of at least {_LEAST_THINGS} different things to train on, "
            f"these are of {things}"
        )
    return subsets_of(data.groups, _FOLDS, 0, seed + 1)


@dataclass(frozen=True, slots=True)
class _Fitted:
    scorer: nn.Module
    out_of_fold: ScoredImages
    calibrated_by: str
    curve: list[CurvePoint]


@dataclass(frozen=True, slots=True)
class _Run:
    """One training, in either way."""

    data: TrainingSet
    grid: int
    fold: NDArray[np.int64]
    seed: int
    budget: Budget
    keeper: Keeper
    on_progress: Progress

    def cross_fitted(self) -> _Fitted:
        """On all images; for calibration each fold is scored by what the others taught."""
        sample = draw(self.data, self.grid, self.seed, self._part(0.0, _DRAWN))
        final = self.final(sample)
        edges = np.linspace(_FINAL, _COMPARED, _FOLDS + 1)
        ready = [self._part(begin, end) for begin, end in pairwise(edges.tolist())]
        others = [
            self._head(sample, self.fold != f, final.options, f"fold-{f}", ready[f]) for f in range(_FOLDS)
        ]
        # They stand for the final one: on the same course, no farther than it had time for.
        _train(others, final.step, lambda: False, self._part(_COMPARED, _TRAINED))
        scorers = [head.scorer() for head in others]
        scored = self._scores(np.arange(len(self.fold)), [scorers[f] for f in self.fold])
        return _Fitted(final.scorer(), scored, f"{_FOLDS}-fold cross-conformal", final.curve)

    def final(self, sample: Sample) -> HeadTraining:
        """The head that is kept."""
        steps = self.budget.max_steps
        options = HeadOptions() if steps is None else HeadOptions(steps=steps)
        everyone = np.ones(len(self.fold), bool)
        head = self._head(sample, everyone, options, "final", self._part(_DRAWN, _READY))
        _train([head], options.steps, self.budget.out_of_time, self._part(_READY, _FINAL))
        return head

    def faithful(self) -> _Fitted:
        """On four fifths, calibrated on the other: five such trainings would take too long."""
        seen, unseen = np.flatnonzero(self.fold != 0), np.flatnonzero(self.fold == 0)
        tiles = torch.cat([tiles_of(self.data.features, int(i), self.grid).half() for i in seen])
        steps = self.budget.max_steps
        options = FaithfulOptions() if steps is None else FaithfulOptions(steps=steps)
        training = FaithfulTraining(tiles, self.grid, options, self.keeper, seed=self.seed, name="faithful")
        _train([training], options.steps, self.budget.out_of_time, self._part(0.0, _TRAINED))
        scorer = training.scorer.eval()
        scored = self._scores(unseen, [scorer] * len(unseen))
        return _Fitted(scorer, scored, "held-out fifth", training.curve)

    def _head(
        self,
        sample: Sample,
        seen: NDArray[np.bool_],
        options: HeadOptions,
        name: str,
        on_progress: Progress,
    ) -> HeadTraining:
        # All heads start from the same weights and see the same noise: their scores are of one scale.
        data = of_images(sample, seen, self.keeper, seed=self.seed, name=name, on_progress=on_progress)
        return HeadTraining(data, options, self.keeper, seed=self.seed, name=name)

    def _part(self, begin: float, end: float) -> Progress:
        return lambda share: self.on_progress(begin + (end - begin) * share)

    def _scores(self, images: NDArray[np.int64], scorers: Sequence[nn.Module]) -> ScoredImages:
        """Each image's largest tile score, by the scorer at its place in `scorers`."""
        features = self.data.features
        scores = np.zeros(len(images), np.float32)

        def score(place: int) -> None:
            with torch.inference_mode():
                tiles = tiles_of(features, int(images[place]), self.grid)
                scores[place] = float(scorers[place](tiles)[1].max())

        for_each(score, 0, len(images), self._part(_TRAINED, 1.0))
        return ScoredImages(tuple(features.ids[i] for i in images), scores)


def _train(
    heads: Sequence[HeadTraining | FaithfulTraining],
    steps: int,
    out_of_time: Callable[[], bool],
    on_progress: Progress,
) -> None:
    """All side by side, to step `steps` at most. `on_progress` is called here; when it raises, they stop."""
    stopped = Event()

    def run(which: int) -> None:
        head = heads[which]

        def on_step(_step: int) -> None:
            if stopped.is_set():
                raise InterruptedError

        head.run(lambda: head.step >= steps or out_of_time(), on_step)

    def watch(_share: float) -> None:
        try:
            on_progress(sum(head.step for head in heads) / (steps * len(heads)))
        except BaseException:
            stopped.set()
            raise

    for_each(run, 0, len(heads), watch)
