"""Images that look like a given one where it is odd: what else to look at when an image turned out bad.

One direction only: each of the image's oddest patches looks for its nearest patch anywhere in the other
image. Where a defect lies does not matter, and what else the other image shows does not, either.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import Projection
from siftline_workers.methods.seeding import Progress, ignore_progress, shuffled

_AREA = 0.02  # of an image's patches: as clusters.py
_SAMPLE = 32
_SHIFTS = 8  # each of the sample with as many others: 256 pairs settle a median


def likeness(
    features: PatchFeatures,
    projection: Projection,
    image: int,
    heat: Mapping[int, NDArray[np.uint8]],
    *,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """(N,) 1 for the same picture, 0 for no more alike than any two images of the set (median of pairs).

    `heat` (P_i,) says where image i is odd; an image without is compared as a whole. Only the given image's
    and those of `sample_of` are looked up.
    """
    query = _oddest(projection.of(features, image), heat.get(image))
    far = np.empty(features.n_images)

    def compare(i: int) -> None:
        far[i] = _distance(query, projection.of(features, i))

    for_each(compare, 0, features.n_images, on_progress)
    typical = _typical(features, projection, heat, seed)
    # In a set of one picture over and over, only that picture is alike.
    alike = np.clip(1 - far / typical, 0, 1) if typical > 0 else far == 0
    return np.asarray(alike, np.float32)


def sample_of(features: PatchFeatures, seed: int = 0) -> list[int]:
    """Positions of the images that stand for the whole set."""
    positions: list[int] = shuffled(features.ids, seed, "likeness")[:_SAMPLE].tolist()
    return positions


def _typical(
    features: PatchFeatures, projection: Projection, heat: Mapping[int, NDArray[np.uint8]], seed: int
) -> float:
    sample = sample_of(features, seed)
    patches = [projection.of(features, i) for i in sample]
    queries = [_oddest(own, heat.get(i)) for own, i in zip(patches, sample, strict=True)]
    shifts = range(1, min(_SHIFTS, len(sample) - 1) + 1)
    pairs = [
        _distance(query, patches[(place + shift) % len(sample)])
        for place, query in enumerate(queries)
        for shift in shifts
    ]
    return float(np.median(pairs)) if pairs else 0.0


def _oddest(patches: NDArray[np.float16], heat: NDArray[np.uint8] | None) -> NDArray[np.float16]:
    if heat is None:
        return patches
    hottest = np.argsort(-heat.astype(np.int64), kind="stable")[: max(1, round(_AREA * len(heat)))]
    return patches[hottest]


def _distance(query: NDArray[np.float16], patches: NDArray[np.float16]) -> float:
    """Mean over the query's patches of the distance to the nearest of the others."""
    a, b = query.astype(np.float64), patches.astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    # Rounding leaves the square of a patch to itself a hair from zero.
    nearest = np.where(squared.min(1) < 1e-9 * (a**2).sum(1), 0, squared.min(1))
    return float(np.sqrt(np.maximum(nearest, 0)).mean())
