"""Distance to the nearest patch of a bounded random memory: the plainest detector, in the purifier's axes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siftline_workers.methods import neighbours, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import Pool


def memory_distances(features: PatchFeatures, pool: Pool) -> NDArray[np.float32]:
    """(patches,) of projected `features`: to the nearest patch in `pool`, whosever it is."""
    stranger = features.n_images  # the pool's images count as one that is none of those looked up
    groups = NearDuplicates(features.ids, np.arange(features.n_images + 1))
    strange = Pool(pool.vectors, np.full_like(pool.image, stranger))
    shard = neighbours.search_shard(features, strange, groups, 0, features.n_images, k=1)
    return shard.distances[:, 0].astype(np.float32)


def detector_scores(training: PatchFeatures, test: PatchFeatures) -> NDArray[np.float32]:
    """(patches of test,) by 16,384 random patches of the training images, in axes of these alone."""
    fitted = projection.fit(training)
    pool = neighbours.build_pool(projection.project(training, fitted))
    return memory_distances(projection.project(test, fitted), pool)


def subset(features: PatchFeatures, chosen: NDArray[np.int64]) -> PatchFeatures:
    """The chosen images alone, copied."""
    sizes = np.diff(features.offsets)[chosen]
    return PatchFeatures(
        tuple(features.ids[i] for i in chosen),
        np.concatenate([features.of(int(i)) for i in chosen]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        features.grids[chosen],
    )
