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
from siftline_workers.methods.features import LET_GO_IMAGES, PatchFeatures
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


def find(
    features: PatchFeatures,
    *,
    basis: int | None = None,
    seed: int = 0,
    on_progress: Progress = ignore_progress,
) -> NearDuplicates:
    """Groups of near-duplicates among N images (backbone features, not projected). N = 0 gives no group.

    What images of the set have in common is found from the first `basis` of them (none given: from all).
    """
    if features.n_images == 0:
        return NearDuplicates((), np.zeros(0, np.int64))
    reference = features.first(features.n_images if basis is None else basis)
    sketches = _sketches(features, reference, seed, on_progress)
    pairs = _similar_pairs(_private_parts(sketches, reference.ids, seed))
    pairs.update(dict.fromkeys(_identical_pairs(sketches), 1.0))
    group = _components(features.n_images, pairs)
    return NearDuplicates(features.ids, group)


def _sketches(features: PatchFeatures, reference: PatchFeatures, seed: int, on_progress: Progress) -> Tensor:
    """(N, 2048): each image's layout of standardised channels, folded together under random signs."""
    cells, together = _SIDE * _SIDE, _SKETCH // (_SIDE * _SIDE)
    folds = -(-features.dim // together)
    flips = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), folds * _SKETCH)
    scale = F.pad(_channel_scale(reference, seed), (0, folds * together - features.dim))
    # By channel, then by cell, as the signs are drawn; kept by cell, as patches are.
    signed = (torch.from_numpy(flips).view(-1, cells) * scale[:, None]).T.contiguous()
    out = torch.zeros(features.n_images, _SKETCH)

    def sketch(i: int) -> None:
        layout = F.pad(_layout(features, i), (0, signed.shape[1] - features.dim))
        out[i] = (layout * signed).view(cells, folds, together).sum(1).T.flatten()
        if i % LET_GO_IMAGES == 0:
            features.let_go()

    for_each(sketch, 0, features.n_images, lambda share: on_progress(0.9 * share))
    return out


def _layout(features: PatchFeatures, i: int) -> Tensor:
    """(256, D): image i's patches on 16 x 16 cells, row by row."""
    rows, columns = features.grid(i)
    patches = torch.from_numpy(features.wide(i))
    if (rows, columns) == (_SIDE, _SIDE):
        return patches
    grid = patches.view(rows, columns, -1).permute(2, 0, 1)
    return F.adaptive_avg_pool2d(grid, _SIDE).flatten(1).T


def _channel_scale(features: PatchFeatures, seed: int) -> Tensor:
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
    return torch.where(moving, grain_square.sqrt() / variance.clamp(min=1e-24), 0.0).float()


def _private_parts(sketches: Tensor, ids: tuple[ImageId, ...], seed: int) -> NDArray[np.float32]:
    """(N, 2048) unit rows: what is left of each image without the mean and strongest modes of the first
    images, those of `ids`. Zeros where nothing is.
    """
    sample = sketches[torch.from_numpy(shuffled(ids, seed, "modes")[:_MODE_IMAGES].copy())].double()
    centre = sample.mean(0)
    modes = min(isqrt(len(sample)), len(sample) // 20)
    axes = torch.zeros(0, sketches.shape[1], dtype=torch.float64)
    if modes:
        # Eigenvectors of the images' products: ten times faster than the decomposition of the sketches.
        centred = sample - centre
        power, mixing = torch.linalg.eigh(centred @ centred.T)
        axes = (mixing[:, -modes:].T @ centred) / power[-modes:, None].clamp(min=1e-24).sqrt()
    out = torch.empty_like(sketches)
    for start in range(0, len(sketches), _BLOCK):
        rows = sketches[start : start + _BLOCK].double()
        private = rows - centre
        private -= (private @ axes.T) @ axes
        norms = private.norm(dim=1, keepdim=True)
        something = norms > 1e-6 * rows.norm(dim=1, keepdim=True)
        out[start : start + _BLOCK] = torch.where(something, private / norms, 0.0)
    return out.numpy()


def _similar_pairs(unit: NDArray[np.float32]) -> dict[tuple[int, int], float]:
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    limits, similarity, found = index.range_search(unit, _SHARED)
    query = np.repeat(np.arange(len(unit)), [int(b - a) for a, b in pairwise(limits)])
    return {(int(a), int(b)): float(s) for a, b, s in zip(query, found, similarity, strict=True) if a < b}


def _identical_pairs(sketches: Tensor) -> list[tuple[int, int]]:
    first: dict[bytes, int] = {}
    pairs = []
    for i, row in enumerate(sketches.numpy()):
        twin = first.setdefault(row.tobytes(), i)
        if twin != i:
            pairs.append((twin, i))
    return pairs


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
