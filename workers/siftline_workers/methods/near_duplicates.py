"""Photographs of one and the same thing, found from their features alone.

They must share a fold and never be each other's evidence: a defect photographed six times would otherwise
prove itself normal. Two images are near-duplicates when they share what no other image has: the set's mean
and its strongest common modes (poses, product variants, lighting) are taken out first, and what is left of
two unrelated images is uncorrelated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import isqrt

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from siftline.domain.scores import ImageId
from siftline_workers.methods import connected as connections
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import neighbourhood_mean
from siftline_workers.methods.seeding import Progress, ignore_progress, shuffled

_SIDE = 16  # cells a side of the layout two images are compared on
_SKETCH = 2048  # a correlation is known to 1/sqrt(2048) = .02
_SHARED = 0.3  # share of the private part two images must have in common; unrelated ones have 0 +- .05
_BARS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # the first is _SHARED: pairs with less are not looked for
_QUERIED = 4096  # of faiss' own blocks, which have 4096 queries,
_STORED = 4096  # and a part of this many stored rows; all pairs of such a block take 200 MB
_FEW_FOR_FAISS = 20
_MODE_IMAGES = 1024
_CARRIERS = 20  # images a mode needs to be common; that many must also stand behind each on average
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
    rare: NDArray[np.float64]
    """(k, 2048), orthonormal, to the axes as well: modes as strong that few images carry."""
    carried: NDArray[np.float64]
    """(k,) how far along such a mode an image lies that carries it."""


def find(
    features: PatchFeatures, *, seed: int = 0, on_progress: Progress = ignore_progress
) -> NearDuplicates:
    """Groups of near-duplicates among N images (backbone features, not projected). N = 0 gives no group."""
    if features.n_images == 0:
        return NearDuplicates((), np.zeros(0, np.int64))
    scale = channel_scale(features, seed)
    found = sketches(features, scale, 0, features.n_images, seed=seed, on_progress=on_progress)
    commons = common_modes(found, features.ids, seed)
    return NearDuplicates(features.ids, grouped(connected(found, commons)))


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
    """Of the sketches (N, 2048) of `ids`.

    Ten frames of noise, or ten photographs of one defect, are a strong mode that no other image has: were it
    taken out of them, too, nothing would be left by which to know them for one thing.
    """
    sample = torch.from_numpy(found[shuffled(ids, seed, "modes")[:_MODE_IMAGES]]).double()
    centre = sample.mean(0)
    modes = min(isqrt(len(sample)), len(sample) // _CARRIERS)
    if not modes:
        none = np.zeros((0, found.shape[1]))
        return Commons(centre.numpy(), none, none, np.zeros(0))
    # Eigenvectors of the images' products: ten times faster than the decomposition of the sketches.
    centred = sample - centre
    power, mixing = torch.linalg.eigh(centred @ centred.T)
    strength = power[-modes:].clamp(min=1e-24).sqrt()
    axes = (mixing[:, -modes:].T @ centred) / strength[:, None]
    few = min(_CARRIERS, largest_group(len(sample)))
    carriers = 1 / mixing[:, -modes:].pow(4).sum(0)  # the inverse participation ratio
    rare = carriers < few
    carried = strength[rare] / few**0.5  # as if `few` images shared it evenly
    return Commons(centre.numpy(), axes[~rare].numpy(), axes[rare].numpy(), carried.numpy())


def _private_parts(found: NDArray[np.float32], commons: Commons) -> NDArray[np.float32]:
    """(N, 2048) unit rows: what is left of each image without what is common, and without the rare modes that
    it does not carry. Zeros where nothing is.
    """
    centre, axes = torch.from_numpy(commons.centre), torch.from_numpy(commons.axes)
    rare, carried = torch.from_numpy(commons.rare), torch.from_numpy(commons.carried)
    out = np.empty_like(found)
    for start in range(0, len(found), _BLOCK):
        rows = torch.from_numpy(found[start : start + _BLOCK]).double()
        own = rows - centre
        along = own @ rare.T
        along[along.abs() >= carried] = 0
        private = own - (own @ axes.T) @ axes - along @ rare
        # An odd image is a mode of its own: what that leaves of it is noise. As it is it has less than
        # _SHARED in common with any private part, for these have nothing of the modes it consists of.
        is_mode = private.norm(dim=1) < _SHARED * own.norm(dim=1)
        private[is_mode] = own[is_mode]
        norms = private.norm(dim=1, keepdim=True)
        something = norms > 1e-6 * rows.norm(dim=1, keepdim=True)
        out[start : start + _BLOCK] = torch.where(something, private / norms, 0.0).numpy()
    return out


def connected(
    found: NDArray[np.float32], commons: Commons, earlier: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """(7, N) the lowest position that each of the images with these sketches (N, 2048) is connected to by
    pairs of at least so much in common, for each of the bars. `earlier` (7, n): those of the first n alone.
    """
    unit = _private_parts(found, commons)
    known = 0 if earlier is None else earlier.shape[1]
    labels = connections.singletons(len(_BARS), len(unit))
    if earlier is not None:
        labels[:, :known] = earlier
    for first, second, similarity in (*_similar_pairs(unit, known), _identical_pairs(found, known)):
        for bar, label in zip(_BARS, labels, strict=True):
            enough = similarity >= bar
            label[:] = connections.joined(label, first[enough], second[enough])
    return labels


_Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
"""Positions `first` < `second`, and the share they have in common; (pairs,) each."""


def _similar_pairs(unit: NDArray[np.float32], start: int) -> Iterator[_Pairs]:
    """Those whose second image is not before `start`, some at a time."""
    for begin, end in _queries(start, len(unit)):
        for at in range(0, end, _STORED):
            index = faiss.IndexFlatIP(unit.shape[1])
            index.add(unit[at : at + _STORED])
            limits, similarity, near = index.range_search(unit[begin:end], _SHARED)
            query = np.repeat(
                np.arange(begin, end), limits[1:].astype(np.int64) - limits[:-1].astype(np.int64)
            )
            near += at
            # Each pair once: from its second image, which is the one that was added.
            earlier = near < query
            yield near[earlier], query[earlier], similarity[earlier].astype(np.float64)


def _queries(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Runs as faiss itself cuts them, so that products are the same to the last bit in whatever company. A
    handful alone would be multiplied in another way, so it goes with the run before.
    """
    while start < stop:
        end = stop if stop - start < _QUERIED + _FEW_FOR_FAISS else start + _QUERIED
        yield start, end
        start = end


def _identical_pairs(found: NDArray[np.float32], start: int) -> _Pairs:
    first: dict[bytes, int] = {}
    twins = []
    for i, row in enumerate(found):
        twin = first.setdefault(blake2b(row.tobytes(), digest_size=32).digest(), i)
        if twin != i and i >= start:
            twins.append((twin, i))
    columns = np.array(twins, np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1], np.ones(len(twins))


def grouped(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) the group of each image: the position of its first one. `labels` (7, N) as from `connected`.

    A group that outgrows a tenth of the set is a chain, and is cut at a higher bar.
    """
    n = labels.shape[1]
    largest_allowed = largest_group(n)
    group: NDArray[np.int64] = labels[0]
    for label in labels[1:]:
        too_large = np.bincount(group, minlength=n)[group] > largest_allowed
        group = np.where(too_large, label, group)
    return group


def largest_group(n: int) -> int:
    """Images of one thing that a set of n is believed to have at most."""
    return max(8, n // 10)
