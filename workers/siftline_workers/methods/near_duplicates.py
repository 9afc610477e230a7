"""Photographs of one and the same thing, found from their features alone.

They must share a fold and never be each other's evidence: a defect photographed six times would otherwise
prove itself normal. Two images are near-duplicates when they share what no other image has: the set's mean
and its strongest common modes (poses, product variants, lighting) are taken out first, and what is left of
two unrelated images is uncorrelated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siftline.domain.scores import ImageId
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import neighbourhood_mean
from siftline_workers.methods.seeding import Progress, ignore_progress, shuffled

_SIDE = 16  # cells a side of the layout two images are compared on
_SKETCH = 2048  # a correlation is known to 1/sqrt(2048) = .02
_SHARED = 0.3  # share of the private part two images must have in common; unrelated ones have 0 +- .05
_MODE_IMAGES = 1024
_BLOCK = 1024  # images looked at together in double precision


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """A grouping of images: same number, same thing."""

    ids: tuple[ImageId, ...]
    group: NDArray[np.int64]
    """(N,): the position of the group's first image in the order of ids."""

    def others(self, image_id: ImageId) -> tuple[ImageId, ...]:
        """The image's near-duplicates, itself left out."""
        mine = self.group[self.ids.index(image_id)]
        return tuple(self.ids[i] for i in np.flatnonzero(self.group == mine) if self.ids[i] != image_id)


@dataclass(frozen=True, slots=True)
class Commons:
    """What the images of a set have in common; it is taken out before two of them are compared."""

    centre: NDArray[np.float64]
    """(2048,) the mean sketch."""
    axes: NDArray[np.float64]
    """(modes, 2048), orthonormal: the strongest common modes."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images that share more than others do: positions `first` < `second`, and the share. (pairs,) each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float32]

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.similarity, other.similarity]),
        )


def find(
    features: PatchFeatures, *, seed: int = 0, on_progress: Progress = ignore_progress
) -> NearDuplicates:
    """Groups of near-duplicates among N images (backbone features, not projected). N = 0 gives no group."""
    if features.n_images == 0:
        return NearDuplicates((), np.zeros(0, np.int64))
    scale = channel_scale(features, seed)
    found = sketches(features, scale, 0, features.n_images, seed=seed, on_progress=on_progress)
    commons = common_modes(found, features.ids, seed)
    return NearDuplicates(features.ids, grouped(len(found), similar_pairs(found, commons, 0)))


def sketches(
    features: PatchFeatures,
    scale: NDArray[np.float32],
    start: int,
    stop: int,
    *,
    seed: int,
    on_progress: Progress = ignore_progress,
) -> NDArray[np.float32]:
    """(stop - start, 2048): each image's layout of channels, scaled by `scale` (D,), folded together under
    random signs.
    """
    cells, together = _SIDE * _SIDE, _SKETCH // (_SIDE * _SIDE)
    folds = -(-features.dim // together)
    flips = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), folds * _SKETCH)
    padded = F.pad(torch.from_numpy(scale), (0, folds * together - features.dim))
    # By channel, then by cell, as the signs are drawn; kept by cell, as patches are.
    signed = (torch.from_numpy(flips).view(-1, cells) * padded[:, None]).T.contiguous()
    out = np.zeros((stop - start, _SKETCH), np.float32)

    def sketch(i: int) -> None:
        layout = F.pad(_layout(features, i), (0, signed.shape[1] - features.dim))
        out[i - start] = (layout * signed).view(cells, folds, together).sum(1).T.flatten().numpy()

    for_each(sketch, start, stop, on_progress)
    return out


def _layout(features: PatchFeatures, i: int) -> Tensor:
    """(256, D): image i's patches on 16 x 16 cells, row by row."""
    rows, columns = features.grid(i)
    patches = torch.from_numpy(features.wide(i))
    if (rows, columns) == (_SIDE, _SIDE):
        return patches
    grid = patches.view(rows, columns, -1).permute(2, 0, 1)
    return F.adaptive_avg_pool2d(grid, _SIDE).flatten(1).T


def channel_scale(features: PatchFeatures, seed: int) -> NDArray[np.float32]:
    """(D,): one over each channel's spread, times the share of it that is fine grain, from 256 images.

    Fine grain tells a thing from its like; a deep layer's smooth maps say what kind of thing it is.
    """
    sample = shuffled(features.ids, seed, "near-duplicates")[:256]
    sums = torch.zeros(len(sample), 3, features.dim, dtype=torch.float64)

    def measure(place: int) -> None:
        i = int(sample[place])
        patches = torch.from_numpy(features.wide(i))
        grain = patches - neighbourhood_mean(features, i)
        sums[place] = torch.stack([patches.sum(0), patches.square().sum(0), grain.square().sum(0)]).double()

    for_each(measure, 0, len(sample))
    rows = int(np.diff(features.offsets)[sample].sum())
    mean, square, grain_square = sums.sum(0) / rows
    variance = (square - mean.square()).clamp(min=0)
    moving = variance > 1e-8 * variance.max().clamp(min=1e-24)
    scale: NDArray[np.float32] = (
        torch.where(moving, grain_square.sqrt() / variance.clamp(min=1e-24), 0.0).float().numpy()
    )
    return scale


def common_modes(found: NDArray[np.float32], ids: tuple[ImageId, ...], seed: int) -> Commons:
    """Of the sketches (N, 2048) of `ids`."""
    sample = torch.from_numpy(found[shuffled(ids, seed, "modes")[:_MODE_IMAGES]]).double()
    centre = sample.mean(0)
    modes = min(isqrt(len(sample)), len(sample) // 20)
    axes = torch.zeros(0, found.shape[1], dtype=torch.float64)
    if modes:
        # Eigenvectors of the images' products: ten times faster than the decomposition of the sketches.
        centred = sample - centre
        power, mixing = torch.linalg.eigh(centred @ centred.T)
        axes = (mixing[:, -modes:].T @ centred) / power[-modes:, None].clamp(min=1e-24).sqrt()
    return Commons(centre.numpy(), axes.numpy())


def _private_parts(found: NDArray[np.float32], commons: Commons) -> NDArray[np.float32]:
    """(N, 2048) unit rows: what is left of each image without what is common. Zeros where nothing is."""
    centre, axes = torch.from_numpy(commons.centre), torch.from_numpy(commons.axes)
    out = np.empty_like(found)
    for start in range(0, len(found), _BLOCK):
        rows = torch.from_numpy(found[start : start + _BLOCK]).double()
        private = rows - centre
        private -= (private @ axes.T) @ axes
        norms = private.norm(dim=1, keepdim=True)
        something = norms > 1e-6 * rows.norm(dim=1, keepdim=True)
        out[start : start + _BLOCK] = torch.where(something, private / norms, 0.0).numpy()
    return out


def similar_pairs(found: NDArray[np.float32], commons: Commons, start: int) -> Pairs:
    """Pairs among images with these sketches (N, 2048) whose second image is not before `start`."""
    unit = _private_parts(found, commons)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    limits, similarity, near = index.range_search(unit[start:], _SHARED)
    query = np.repeat(np.arange(start, len(unit)), [int(b - a) for a, b in pairwise(limits)])
    # Each pair once: from its second image, which is the one that was added.
    earlier = near < query
    return Pairs(near[earlier], query[earlier], similarity[earlier]) + _identical_pairs(found, start)


def _identical_pairs(found: NDArray[np.float32], start: int) -> Pairs:
    first: dict[bytes, int] = {}
    twins = []
    for i, row in enumerate(found):
        twin = first.setdefault(row.tobytes(), i)
        if twin != i and i >= start:
            twins.append((twin, i))
    columns = np.array(twins, np.int64).reshape(-1, 2)
    return Pairs(columns[:, 0], columns[:, 1], np.ones(len(twins), np.float32))


def grouped(n: int, pairs: Pairs) -> NDArray[np.int64]:
    """(n,) the group of each of n images: the position of its first one."""
    columns = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.similarity.tolist(), strict=True)
    return _components(n, {(a, b): similarity for a, b, similarity in columns})


def _components(n: int, pairs: dict[tuple[int, int], float]) -> NDArray[np.int64]:
    """Connected components; one that outgrows a tenth of the set is a chain, and is cut at a higher bar."""
    largest_allowed = max(8, n // 10)
    for bar in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        group = _joined(n, pairs)
        sizes = np.bincount(group, minlength=n)
        if sizes.max() <= largest_allowed:
            break
        pairs = {
            pair: similarity
            for pair, similarity in pairs.items()
            if sizes[group[pair[0]]] <= largest_allowed or similarity >= bar
        }
    return _joined(n, pairs)


def _joined(n: int, pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    """(N,): the lowest position each image is connected to."""
    parent = list(range(n))
    for a, b in pairs:
        low, high = sorted((_root(parent, a), _root(parent, b)))
        parent[high] = low
    return np.array([_root(parent, i) for i in range(n)], dtype=np.int64)


def _root(parent: list[int], i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i
