"""CDD and plain reverse distillation as detectors: features, training, calibration.

The method itself is in distillation, cdd_training and aggregation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.backbones import (
    Backbone,
    Preset,
    choose_engine,
    find_weights,
    fingerprint_of,
    load_embedder,
)
from siftline_workers.methods.cdd_training import CddOptions, Training
from siftline_workers.methods.detectors import Budget, Keeper, TooFewImages, Trained, TrainingSet
from siftline_workers.methods.distillation import (
    Distilled,
    FlatTeacher,
    Stages,
    Teacher,
    anomaly_map,
    stages_of,
)
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.llbnad import subsets_of
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.pieces import Share, alone
from siftline_workers.methods.seeding import Progress
from siftline_workers.methods.weights import sha256_of

_HELD_OUT = 5  # one part in so many calibrates
_CALIBRATION_SHARE = 0.05  # of the time


class Cdd:
    """Fulfils `detectors.Method`."""

    def extractor(self, preset: Preset, weights: Path | None, device: str) -> Backbone:
        """The teacher's three stages as one row a tile. ValueError when it has none to distil."""
        stages = stages_of(preset)
        path = weights or find_weights(preset, None)
        rows = FlatTeacher(Teacher(load_embedder(preset, path), stages))
        engine = choose_engine(lambda: rows, preset.side, device)
        flat = replace(preset, grid=1, taps=tuple((i,) for i in stages.indices))
        return Backbone(
            flat, fingerprint_of(flat, sha256_of(path), f"{engine.tag}-stages"), stages.dim, engine
        )

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
        """As `detectors.Method.train`. The map's grid is that of the teacher's finest stage."""
        stages = stages_of(preset)
        chosen = CddOptions(**{f.name: options[f.name] for f in fields(CddOptions) if f.name in options})
        if data.features.dim != stages.dim:
            raise ValueError(
                f"features have {data.features.dim} numbers a tile, {preset.name}'s stages {stages.dim}"
            )
        held_out = _held_out(data, chosen, seed)
        training = Training(data, np.flatnonzero(~held_out), stages, chosen, seed)
        student = training.run(
            budget, keeper, lambda done: on_progress((1 - _CALIBRATION_SHARE) * done), share
        )
        calibration = np.flatnonzero(held_out)
        scores = image_scores(
            data.features, calibration, stages, student,
            lambda done: on_progress(1 - _CALIBRATION_SHARE * (1 - done)),
        )  # fmt: skip
        teacher = Teacher(load_embedder(preset, weights), stages)
        return Trained(
            module=Distilled(teacher, student).eval(),
            weights={name: t.detach().clone() for name, t in student.state_dict().items()},
            out_of_fold=ScoredImages(tuple(data.features.ids[i] for i in calibration), scores),
            in_sample=False,
            calibrated_by="held-out fifth",
            curve=tuple(training.curve),
        )


CDD = Cdd()


def _held_out(data: TrainingSet, options: CddOptions, seed: int) -> NDArray[np.bool_]:
    """(N,): a fifth of the images, photographs of one thing together. TooFewImages when too few are left."""
    n = data.features.n_images
    held_out = subsets_of(data.groups, _HELD_OUT, 0, seed) == 0 if n else np.zeros(0, bool)
    things = len(np.unique(data.groups.group[~held_out]))
    needed = 2 * options.domains if options.aggregation else 2
    if not held_out.any() or things < needed:
        raise TooFewImages(
            f"{n} images of {len(np.unique(data.groups.group))} different things are too few: a fifth is "
            f"held out for calibration, and at least {needed} things must be left to learn from"
        )
    return held_out


def image_scores(
    features: PatchFeatures,
    images: NDArray[np.int64],
    stages: Stages,
    student: torch.nn.Module,
    on_progress: Progress,
) -> NDArray[np.float32]:
    """(len(images),): the largest of an image's tiles, each scored as the exported detector does."""
    scores = np.zeros(len(images), np.float32)

    def score(place: int) -> None:
        with torch.inference_mode():
            maps = stages.maps(torch.from_numpy(features.of(int(images[place])).copy()))
            scores[place] = float(anomaly_map(maps, student(maps)).max())

    for_each(score, 0, len(images), on_progress)
    return scores
