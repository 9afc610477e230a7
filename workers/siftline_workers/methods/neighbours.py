"""One neighbour graph: every patch's nearest patch in each of the images nearest to it.

Built once; after that every statistic on frozen features (any fold's, any bag's, any purified bank's
distance) is a look-up: a minimum over the entries whose image is in the bank. The pool searched is a
bounded *random* one: greedy farthest-first selection takes up contaminated patches 16 to 41 times too often
("What Memory Composition Does Not Tell Us About AD", 2026, says so). Own image and near-duplicates are left
out, so no image is its own evidence. Cost is linear in images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline.domain.randomness import image_keys
from siftline.domain.scores import ImageId
from siftline_workers.methods.features import PatchFeatures, float32
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.seeding import Progress, ignore_progress, image_rng, shuffled

NEIGHBOURS = 32  # images a patch's list names
_BLOCK = 65_536  # rows of the graph looked at together: its masks stay small for any set

Positions = NDArray[np.int16 | np.int32]
Bits = NDArray[np.int16] | NDArray[np.int32]
_INFINITE = {np.dtype(np.int16): 0x7F80, np.dtype(np.int32): 0x7F800000}
"""+inf as bits of a bfloat16 and of a float32."""


@dataclass(frozen=True, slots=True)
class Pool:
    """S slots of m patches; a slot belongs to one image. An image that is short of patches repeats some."""

    vectors: NDArray[np.float32]
    """(S, m, d)"""
    image: NDArray[np.int32]
    """(S,): position of the slot's image in `features.ids`."""

    def part(self, wanted: NDArray[np.bool_]) -> Pool:
        """The slots that are wanted (S,)."""
        return Pool(self.vectors[wanted], self.image[wanted])


@dataclass(frozen=True, slots=True)
class NeighbourShard:
    """Neighbours of the patches of images start..stop."""

    start: int
    stop: int
    distances: NDArray[np.float16]
    """(rows, k), ascending; +inf where there is no further image."""
    images: Positions
    """(rows, k) positions in `features.ids`; -1 where there is none."""


@dataclass(frozen=True, slots=True)
class NeighbourGraph:
    """Neighbours of every patch: rows follow PatchFeatures' rows."""

    ids: tuple[ImageId, ...]
    offsets: NDArray[np.int64]
    """(N+1,)"""
    distances: NDArray[np.float16]
    """(patches, k), ascending; +inf where there is no further image."""
    images: Positions
    """(patches, k) positions in `ids`; -1 where there is none."""
    barred: NDArray[np.bool_] | None = None
    """(N,) images that never stand in a bank: evidence of what is normal they are not."""

    def bank_distance(self, in_bank: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(patches,) distance to the nearest patch of a bank of images, `in_bank` (N,).

        Where none of the k images is in the bank, the farthest one known: the truth is not less. Zero for a
        patch without any neighbour: no evidence against it.
        """
        out = np.empty(len(self.distances), np.float32)
        if self.barred is not None:
            in_bank = in_bank & ~self.barred
        for start in range(0, len(out), _BLOCK):
            images = self.images[start : start + _BLOCK]
            distances = self.distances[start : start + _BLOCK]
            known = images >= 0
            member = known & in_bank[images]
            row = np.arange(len(images))
            # Rows ascend: the first member is the nearest, and the last known one the farthest.
            first = np.where(member.any(axis=1), member.argmax(axis=1), known.sum(axis=1) - 1)
            near = distances[row, first].astype(np.float32)
            out[start : start + _BLOCK] = np.where(known[:, 0], near, 0)
        return out


def build_pool(
    features: PatchFeatures,
    *,
    basis: int | None = None,
    max_patches: int = 16_384,
    max_images: int = 1024,
    seed: int = 0,
) -> Pool:
    """A random pool: up to `max_images` images, `max_patches` patches in all, as many of each image.

    Those of the first `basis` images, if given, are chosen as if there were no others; behind them stand
    others as often as one of the first does.
    """
    n = features.n_images if basis is None else basis
    chosen = shuffled(features.ids[:n], seed, "pool-images")[:max_images]
    most = int(np.diff(features.offsets)[chosen].max())
    per_image = min(max(1, max_patches // len(chosen)), most)
    chosen = np.concatenate([chosen, _later_ones(features.ids, n, chosen, seed)])
    vectors = np.empty((len(chosen), per_image, features.dim), np.float32)
    for slot, i in enumerate(chosen):
        rows = features.of(int(i))
        order = image_rng(features.ids[i], seed, "pool-patches").permutation(len(rows))
        vectors[slot] = rows[np.resize(order, per_image)]
    return Pool(vectors, chosen.astype(np.int32))


def _later_ones(ids: tuple[ImageId, ...], n: int, chosen: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Positions from n on of images that come before the last of the `chosen` in the order of choice."""
    order = shuffled(ids[n:], seed, "pool-images") + n
    keys = image_keys(ids, seed, "pool-images")
    return order[keys[order] <= keys[chosen[-1]]] if len(chosen) < n else order


def search_shard(
    features: PatchFeatures,
    pool: Pool,
    groups: NearDuplicates,
    start: int,
    stop: int,
    *,
    k: int = NEIGHBOURS,
    on_progress: Progress = ignore_progress,
) -> NeighbourShard:
    """For each patch of images start..stop: its k nearest pool images, by the nearest patch of each."""
    k = min(k, len(pool.image))
    first = int(features.offsets[start])
    rows = int(features.offsets[stop]) - first
    distances = np.full((rows, k), np.inf, np.float16)
    images = np.full((rows, k), -1, _position_type(features.n_images))
    if k == 0:
        return NeighbourShard(start, stop, distances, images)
    bank = _augmented_bank(pool)
    slot_group = groups.group[pool.image]

    def search(i: int) -> None:
        own = slice(int(features.offsets[i]) - first, int(features.offsets[i + 1]) - first)
        halves = _half_squared_to_slots(features.of(i), bank, len(pool.image))
        halves[:, slot_group == groups.group[i]] = _INFINITE[halves.dtype]
        nearest, slot = _smallest(halves, k)
        distances[own] = np.sqrt(2 * nearest)
        images[own] = np.where(np.isfinite(nearest), pool.image[slot], -1)

    for_each(search, start, stop, on_progress)
    return NeighbourShard(start, stop, distances, images)


def _position_type(images: int) -> type[np.int16 | np.int32]:
    """The smallest that holds any position: the graph is the largest thing in memory."""
    return np.int16 if images <= np.iinfo(np.int16).max else np.int32


def search_precision() -> torch.dtype:
    """bfloat16 where the processor multiplies it itself (measured here: 10 times float32), else float32."""
    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def _augmented(vectors: Tensor, *, norms_first: bool) -> Tensor:
    """Rows to which their own half squared norm is added, so that one product gives |q-b|^2 / 2 itself.

    The norm is that of the rounded vector, split in two parts that the precision can hold: the product then
    loses nothing to cancellation, only a last rounding, relative to the distance (.4 % in bfloat16).
    """
    rounded = vectors.to(search_precision())
    half = rounded.float().square().sum(-1, keepdim=True) / 2
    high = half.to(rounded.dtype)
    low = (half - high.float()).to(rounded.dtype)
    ones = torch.ones_like(high)
    parts = (rounded, high, low, ones, ones) if norms_first else (-rounded, ones, ones, high, low)
    return torch.cat(parts, dim=-1)


def _augmented_bank(pool: Pool) -> Tensor:
    """(d', m * S): patch-major, so that the minimum over a slot's patches runs over whole rows."""
    by_patch = torch.from_numpy(pool.vectors).transpose(0, 1).flatten(0, 1)
    return _augmented(by_patch, norms_first=False).T


def _half_squared_to_slots(patches: NDArray[np.float16], bank: Tensor, slots: int) -> Bits:
    """(P, S): half the squared distance of each patch to the nearest patch of each slot.

    As bits: those of floats that are not negative sort as the numbers do, and integers are compared eight
    times faster than bfloat16. A negative one is zero, but for rounding.
    """
    query = _augmented(torch.from_numpy(float32(patches)), norms_first=True)
    product = query @ bank
    bits = product.view(torch.int16 if product.dtype == torch.bfloat16 else torch.int32)
    nearest: Bits = bits.view(len(query), -1, slots).amin(1).clamp_(min=0).numpy()
    return nearest


def _smallest(bits: Bits, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k smallest of each row of floats in bits, ascending, and their columns; of equal ones the first.

    Value and column sorted as one number: a quarter of the time of numpy's partition of floats and a
    fifteenth of torch's topk.
    """
    size = 8 * bits.itemsize
    keys: NDArray[Any] = bits.astype(np.int32 if size == 16 else np.int64)
    keys <<= size
    keys |= np.arange(bits.shape[1])
    keys.partition(k - 1, axis=1)
    least = np.sort(keys[:, :k], axis=1)
    column = least & ((1 << size) - 1)
    # A bfloat16 is the upper half of a float32.
    value = (least - column if size == 16 else least >> size).astype(np.int32)
    return value.view(np.float32), column.astype(np.int64)


def merged(
    one: NeighbourShard,
    other: NeighbourShard,
    groups: NearDuplicates,
    offsets: NDArray[np.int64],
    *,
    k: int = NEIGHBOURS,
) -> NeighbourShard:
    """One list from two of the same patches, found in two pools, of at most k entries.

    Entries that `groups` has come to know as photographs of the same thing are left out.
    """
    of = np.repeat(groups.group[one.start : one.stop], np.diff(offsets[one.start : one.stop + 1]))
    images = np.concatenate([one.images, other.images], axis=1)
    distances = np.concatenate([one.distances, other.distances], axis=1)
    gone = (images < 0) | (groups.group[images] == of[:, None])
    images[gone], distances[gone] = -1, np.inf
    # The bits of floats that are not negative sort as the numbers do, and much faster.
    order = np.argsort(distances.view(np.int16), axis=1, kind="stable")[:, :k]
    return NeighbourShard(
        one.start,
        one.stop,
        np.take_along_axis(distances, order, axis=1),
        np.take_along_axis(images, order, axis=1),
    )


def join(shards: Iterable[NeighbourShard], features: PatchFeatures) -> NeighbourGraph:
    """The graph, from shards that cover all images once, one after the other: no two need be in memory at
    once. ValueError when they do not.
    """
    parts = iter(shards)
    shard: NeighbourShard | None = next(parts, None)
    width = 0 if shard is None else shard.images.shape[1]
    distances = np.empty((features.n_patches, width), np.float16)
    images = np.empty((features.n_patches, width), _position_type(features.n_images))
    covered = np.zeros(features.n_images, np.int64)
    while shard is not None:
        covered[shard.start : shard.stop] += 1
        rows = slice(int(features.offsets[shard.start]), int(features.offsets[shard.stop]))
        distances[rows], images[rows] = shard.distances, shard.images
        shard = next(parts, None)
    if (covered != 1).any():
        raise ValueError("the shards do not cover all images once")
    return NeighbourGraph(features.ids, features.offsets, distances, images)
