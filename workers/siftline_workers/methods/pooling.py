"""From patch scores to one score per image, and scores onto one scale."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

# Nobody knows how large a defect is: one patch, some, or a tenth of the image, equally spaced on a log scale.
DEFECT_AREAS = (0.004, 0.02, 0.1)


def pool_images(
    patch_scores: NDArray[np.float32],
    offsets: NDArray[np.int64],
    areas: tuple[float, ...] = DEFECT_AREAS,
) -> NDArray[np.float32]:
    """(N,): mean over `areas`, each on a robust scale, of the mean of an image's highest share of patches."""
    if len(offsets) < 2:
        return np.zeros(0, np.float32)
    tops = np.stack([_top_means(patch_scores[a:b], areas) for a, b in pairwise(offsets)])
    pooled: NDArray[np.float32] = np.mean([robust_z(column) for column in tops.T], axis=0, dtype=np.float32)
    return pooled


def _top_means(scores: NDArray[np.float32], areas: tuple[float, ...]) -> NDArray[np.float32]:
    descending = -np.sort(-scores)
    means = np.cumsum(descending, dtype=np.float64) / np.arange(1, len(scores) + 1)
    return means[[max(1, round(area * len(scores))) - 1 for area in areas]].astype(np.float32)


def robust_z(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(value - median) / (1.4826 MAD). All zeros when more than half of the values are equal and none
    differs; when only the MAD vanishes, the mean absolute deviation stands in.
    """
    if len(values) == 0:
        return np.zeros(0, np.float32)
    wide = values.astype(np.float64)
    centred = wide - np.median(wide)
    scale = 1.4826 * np.median(np.abs(centred))
    floor = 1e-6 * max(float(np.abs(wide).max()), 1e-12)
    if scale <= floor:
        scale = 1.2533 * np.abs(centred).mean()
    if scale <= floor:
        return np.zeros(len(values), np.float32)
    scaled: NDArray[np.float32] = (centred / scale).astype(np.float32)
    return scaled
