"""What every detector is to the code that trains it: one function from features to a network that scores.

A detector's image score is the largest over the image's tiles (siftline.imaging.tiles), and its map the
tiles' maps side by side. Training, calibration, export and the service keep to that one definition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.backbones import Backbone, Preset
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.pieces import Keeper, Share, alone
from siftline_workers.methods.seeding import Progress

__all__ = ["Budget", "CurvePoint", "Keeper", "Method", "TooFewImages", "Trained", "TrainingSet"]


class TooFewImages(ValueError):
    """The set is too small for the method. The message says how many it needs and is for users."""


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop early with what there is."""

    max_steps: int | None = None
    """Optimiser steps of the final model."""
    out_of_time: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The images to learn as normal."""

    features: PatchFeatures
    """Made by the method's own `extractor`."""
    groups: NearDuplicates
    """Photographs of one thing: never in two folds."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    step: int
    loss: float


@dataclass(frozen=True, slots=True)
class Trained:
    module: nn.Module
    """tiles (B, S, S, 3) uint8 RGB -> (map (B, g, g) float32, score (B,) float32), high = anomalous: the
    whole path with pre-processing and backbone, in eval mode, ready to be exported."""
    weights: Mapping[str, Tensor]
    """What was trained, without the frozen backbone."""
    out_of_fold: ScoredImages
    """Image scores for calibration, each by a model that did not see the image (unless `in_sample`)."""
    in_sample: bool
    calibrated_by: str
    """The method in a few words for the calibration card: "5-fold cross-conformal", "held-out fifth"."""
    curve: tuple[CurvePoint, ...]


class Method(Protocol):
    def extractor(self, preset: Preset, weights: Path | None, device: str) -> Backbone:
        """What `TrainingSet.features` must be made by. Raises as `backbones.load_backbone` does."""
        ...

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
        share: Share = alone,
    ) -> Trained:
        """`options` are the method's own of `siftline.schemas`, as plain values.

        What falls into pieces that do not depend on each other goes through `share`.

        `on_progress` may raise to cancel. Whatever `keeper` holds of an earlier, killed attempt is used, with
        the same outcome as without the kill. Raises TooFewImages.
        """
        ...
