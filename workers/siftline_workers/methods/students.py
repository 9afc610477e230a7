"""LLBNAD's own kind of sub-model: a distillation student trained on a subset of the images, briefly.

After Zhang et al. (SMC 2025, arXiv 2508.07441); own code. The release trains a small Dinomaly on each subset;
here it is the student of reverse distillation that also is CDD's domain student. Brief on purpose: models
learn what is frequent first, and an anomaly of the subset itself should not be learned at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import cos, pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siftline.domain.randomness import image_keys
from siftline.imaging.tiles import join_tiles
from siftline_workers.methods.distillation import Stages, Student, anomaly_map, distance, new_student
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.learner import Learner, drawn
from siftline_workers.methods.seeding import Progress

_BATCH = 16
_LEARNING_RATE = 5e-3


@dataclass(frozen=True, slots=True)
class StudentSubModel:
    """A sub-model for `llbnad.subset_scores`."""

    features: PatchFeatures
    """As `Cdd.extractor` makes them: a row a tile."""
    stages: Stages
    grid: int
    """Scores come on grid x grid patches a tile, row-major over an image as its backbone's patches are."""
    steps: int = 60
    blocks: int = 1
    seed: int = 0
    barred: NDArray[np.bool_] | None = None
    """(N,) images that no student may learn from, whatever its subset: as in `NeighbourGraph`."""

    def __call__(self, members: NDArray[np.bool_], on_progress: Progress) -> NDArray[np.float32]:
        """(patches,) of all images by a student of the members. It follows from their ids alone.

        All 0 where every member is barred.
        """
        if self.barred is not None:
            members = members & ~self.barred
        if not members.any():
            return np.zeros(self.features.n_patches * self.grid**2, np.float32)
        whole = self.steps + self.features.n_images
        student = self._trained(members, lambda step: on_progress(step / whole))
        parts = []
        for i in range(self.features.n_images):
            on_progress((self.steps + i) / whole)
            parts.append(self._patch_scores(i, student))
        return np.concatenate(parts)

    def _trained(self, members: NDArray[np.bool_], on_step: Callable[[int], None]) -> Student:
        features = self.features
        by_id = sorted(np.flatnonzero(members), key=lambda i: features.ids[i])
        own = np.concatenate([np.arange(features.offsets[i], features.offsets[i + 1]) for i in by_id])
        key = int(image_keys(["\0".join(features.ids[i] for i in by_id)], self.seed, "student")[0])
        random = np.random.default_rng(key)
        learner = Learner(new_student(self.stages, self.blocks, torch.Generator().manual_seed(key >> 1)))
        for step in range(self.steps):
            on_step(step)
            # A batch norm needs two: a lone tile is given twice.
            rows = random.choice(own, max(2, min(_BATCH, len(own))), replace=len(own) < 2)
            maps = self.stages.maps(torch.from_numpy(features.patches[rows]))
            learner.step(partial(_loss, maps), _LEARNING_RATE * (1 + cos(pi * step / self.steps)) / 2)
        return learner.model.eval()

    @torch.inference_mode()
    def _patch_scores(self, i: int, student: Student) -> NDArray[np.float32]:
        """(P_i,): a patch scores as its highest place does."""
        maps = self.stages.maps(torch.from_numpy(self.features.of(i).copy()))
        found = F.adaptive_max_pool2d(anomaly_map(maps, student(maps))[:, None], self.grid)
        patches = found.reshape(len(found), self.grid**2, 1).numpy()
        return join_tiles(patches, self.features.grid(i), self.grid).reshape(-1)


def _loss(maps: list[Tensor], student: Student) -> Tensor:
    return distance(maps, drawn(student, maps))
