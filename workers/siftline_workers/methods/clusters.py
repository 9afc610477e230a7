"""Images that look alike where they are odd: a rare good variant is then seen as a group, and so is a
repeated defect.

Leader clustering (Hartigan 1975, ch. 3) from the most suspect image down: an image joins the nearest leader
within reach, or leads a cluster of its own. An image's cluster thus depends only on images more suspect than
itself, so that moving the cut renames nothing; average linkage was hardly purer on Magnetic Tile's suspects
(benchmarks/LOG.md) and grows with the square of their number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.seeding import Progress, ignore_progress, shuffled

_AREA = 0.02  # share of an image's patches that tell what is odd about it: the middle one of DEFECT_AREAS
_REACH = 0.05  # two images in a cluster are more alike than 95 % of any two images of the set
_SAMPLE = 1024  # images, each compared with _SHIFTS others: settles the quantile to .002
_SHIFTS = 16
_LEADERS = 1000  # bounds the cost; images that come later and fit none of them stay alone


def look_alikes(
    features: PatchFeatures,
    groups: NearDuplicates,
    heat: NDArray[np.float32],
    scores: ScoredImages,
    *,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.int64]:
    """(N,) cluster of each image, numbered by their most suspect members: 0 holds the most suspect image.

    `features` are projected ones, `heat` (patches,) says where an image is odd. Near-duplicates always share
    a cluster. The order of the images changes nothing.
    """
    ids = features.ids
    odd = np.empty((features.n_images, features.dim), np.float32)

    def describe(i: int) -> None:
        odd[i] = _oddity(features, heat, i)

    for_each(describe, 0, features.n_images, on_progress)
    values = scores.aligned_to(ids)
    order = sorted(range(len(ids)), key=lambda i: (-float(values[i]), ids[i]))
    return _led(odd, groups.group, order, _reach(odd, groups, seed))


def _led(
    odd: NDArray[np.float32], group: NDArray[np.int64], order: list[int], reach: float
) -> NDArray[np.int64]:
    """(N,) cluster of each row of `odd` (N, d), led by the first in `order` that belongs to it."""
    leaders = np.empty((min(len(odd), _LEADERS), odd.shape[1]), np.float32)
    led: list[int] = []
    of_group: dict[int, int] = {}
    clusters = 0
    for i in order:
        if int(group[i]) in of_group:
            continue
        likeness = leaders[: len(led)] @ odd[i]
        if led and likeness.max() >= reach:
            of_group[int(group[i])] = led[int(likeness.argmax())]
            continue
        if len(led) < len(leaders):
            leaders[len(led)] = odd[i]
            led.append(clusters)
        of_group[int(group[i])] = clusters
        clusters += 1
    return np.array([of_group[int(g)] for g in group], np.int64)


def _oddity(features: PatchFeatures, heat: NDArray[np.float32], i: int) -> NDArray[np.float32]:
    """(d,) direction in which image i's hottest patches differ from the set's mean, length one (or zero)."""
    own = heat[features.offsets[i] : features.offsets[i + 1]]
    hottest = np.argsort(-own, kind="stable")[: max(1, round(_AREA * len(own)))]
    mean: NDArray[np.float32] = features.of(i)[np.sort(hottest)].astype(np.float32).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0 else mean


def _reach(odd: NDArray[np.float32], groups: NearDuplicates, seed: int) -> float:
    """The likeness (cosine) that only `_REACH` of the pairs of different things of the set exceed."""
    sample = shuffled(groups.ids, seed, "clusters")[:_SAMPLE]
    likeness: list[NDArray[np.float32]] = []
    for shift in range(1, min(_SHIFTS, len(sample) - 1) + 1):
        other = np.roll(sample, shift)
        different = groups.group[sample] != groups.group[other]
        likeness.append(np.einsum("nd,nd->n", odd[sample], odd[other])[different])
    pairs = np.concatenate([np.zeros(0, np.float32), *likeness])
    return float(np.quantile(pairs, 1 - _REACH)) if len(pairs) else np.inf
