"""The plain detector to beat: distance to the nearest patch of a random memory of the training images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from siftline_workers.methods import neighbours, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.pooling import DEFECT_AREAS


class NearestNeighbour:
    """16,384 random patches of the training images, projected as the purifier's; Euclidean distance."""

    def __init__(self, training: PatchFeatures) -> None:
        self.fitted = projection.fit(training)
        pool = neighbours.build_pool(projection.project(training, self.fitted))
        self.memory = torch.from_numpy(pool.vectors.reshape(-1, pool.vectors.shape[2]))
        self.halves = self.memory.square().sum(1) / 2

    def maps(self, features: PatchFeatures) -> list[NDArray[np.float32]]:
        """(rows, columns) of distances for each image."""
        projected = projection.project(features, self.fitted)
        return [self._map(projected, i) for i in range(projected.n_images)]

    def _map(self, projected: PatchFeatures, i: int) -> NDArray[np.float32]:
        patches = torch.from_numpy(projected.of(i).astype(np.float32))
        squares = patches.square().sum(1) - 2 * torch.addmm(-self.halves, patches, self.memory.T).amax(1)
        nearest: NDArray[np.float32] = squares.clamp(min=0).sqrt().numpy()
        return nearest.reshape(projected.grid(i))


def image_score(heat: NDArray[np.float32]) -> float:
    """Mean over the purifier's defect areas of the mean of the highest share of patches."""
    descending = -np.sort(-heat.ravel())
    tops = [descending[: max(1, round(area * len(descending)))].mean() for area in DEFECT_AREAS]
    return float(np.mean(tops))
