"""What one head of a detector learns from: a sample of its own images' patches, described and compared.

Everything fitted, the principal axes too, is fitted on the head's own images. Axes that have seen an image
describe it more loudly than an unseen one: with axes shared by all folds, 160 calibration images let through
.5 % false alarms where 10 % were asked for (benchmarks/LOG.md).

Cost: drawing the sample is linear in images, the rest is bounded by the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline_workers.methods import neighbours, padim, projection
from siftline_workers.methods.detectors import Keeper, TrainingSet
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_detector_network import Descriptor, Places, surroundings
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, Pool
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import Projection
from siftline_workers.methods.seeding import Progress, image_rng, shuffled

MEMORY_PATCHES = 8192
_SAMPLE = 32_768  # patches in all, as many of each image
_AXES_PATCHES = 16_384
_PLACES_TILES = 2048  # of which the Gaussians of places are fitted


@dataclass(frozen=True, slots=True)
class Sample:
    """Random patches of all N images, as the backbone made them and averaged over their surroundings."""

    data: TrainingSet
    grid: int
    """Patches a tile's side."""
    offsets: NDArray[np.int64]
    """(N+1,): image i owns the rows offsets[i]:offsets[i+1]."""
    fine: Tensor
    """(R, D) float16"""
    around: Tensor
    """(R, D) float16"""


@dataclass(frozen=True, slots=True)
class HeadData:
    """The sample's rows of n images, for one head."""

    descriptor: Descriptor
    offsets: NDArray[np.int64]
    """(n+1,)"""
    graph: NeighbourGraph
    """Of context descriptors, one row a sampled patch. Own image and near-duplicates left out."""
    pool: Pool
    """Context descriptors that the memory is made of."""
    descriptors: Tensor
    """(rows, 2 d): fine and context side by side."""
    places: Places


def draw(data: TrainingSet, grid: int, seed: int, on_progress: Progress) -> Sample:
    """The sample, by the images' ids alone."""
    features = data.features
    per_image = max(1, _SAMPLE // features.n_images)
    fine, around = [torch.empty(0)] * features.n_images, [torch.empty(0)] * features.n_images

    def take(i: int) -> None:
        tiles = tiles_of(features, i, grid)
        patches = tiles.flatten(0, 1)
        order = image_rng(features.ids[i], seed, "funad-sample").permutation(len(patches))
        rows = torch.from_numpy(order[:per_image])
        fine[i] = patches[rows].half()
        around[i] = surroundings(tiles, grid).flatten(0, 1)[rows].half()

    for_each(take, 0, features.n_images, on_progress)
    offsets = np.cumsum([0, *map(len, fine)]).astype(np.int64)
    return Sample(data, grid, offsets, torch.cat(fine), torch.cat(around))


def of_images(
    sample: Sample,
    chosen: NDArray[np.bool_],
    keeper: Keeper,
    *,
    seed: int,
    name: str,
    on_progress: Progress,
) -> HeadData:
    """What a head that may see the `chosen` (N,) images learns from."""
    features = sample.data.features
    images = np.flatnonzero(chosen)
    rows = torch.from_numpy(np.repeat(chosen, np.diff(sample.offsets)))
    offsets = np.append(0, np.cumsum(np.diff(sample.offsets)[images])).astype(np.int64)
    descriptor = _descriptor(sample, rows, seed, keeper, name)
    fine, context = descriptor.described(sample.fine[rows].float(), sample.around[rows].float())
    described = PatchFeatures(
        tuple(features.ids[i] for i in images),
        context.half().numpy(),
        offsets,
        np.stack([np.diff(offsets), np.ones(len(images))], axis=1).astype(np.int32),
    )
    pool = neighbours.build_pool(described, max_patches=MEMORY_PATCHES, seed=seed)
    groups = NearDuplicates(described.ids, sample.data.groups.group[images])
    shard = neighbours.search_shard(described, pool, groups, 0, len(images), on_progress=on_progress)
    graph = neighbours.join([shard], described)
    places = _places(sample, images, descriptor, seed)
    return HeadData(descriptor, offsets, graph, pool, torch.cat([fine, context], dim=1), places)


def tiles_of(features: PatchFeatures, i: int, grid: int) -> Tensor:
    """(T, g * g, D) float32: image i's patches tile by tile, as the backbone made them."""
    rows, columns = features.grid(i)
    patches = torch.from_numpy(features.of(i).astype(np.float32))
    cells = patches.view(rows // grid, grid, columns // grid, grid, -1).transpose(1, 2)
    return cells.reshape(-1, grid * grid, features.dim)


def _places(sample: Sample, images: NDArray[np.int64], descriptor: Descriptor, seed: int) -> Places:
    """Fitted to all patches of random ones of the `images`."""
    features, grid = sample.data.features, sample.grid
    order = images[shuffled([features.ids[i] for i in images], seed, "funad-places")]
    tiles = np.diff(features.offsets)[order] // grid**2
    order = order[: 1 + int(np.searchsorted(np.cumsum(tiles), _PLACES_TILES))]
    maps: list[list[NDArray[np.float16]]] = [[]] * len(order)

    def describe(k: int) -> None:
        _, context = descriptor(tiles_of(features, int(order[k]), grid))
        first = context[:, :, : padim.AXES].half().numpy()
        maps[k] = list(first.reshape(len(first), grid, grid, -1))

    for_each(describe, 0, len(order))
    ids = [f"{features.ids[i]}-{t}" for i, of in zip(order, maps, strict=True) for t in range(len(of))]
    described = PatchFeatures.from_grids(ids, [tile for of in maps for tile in of])
    groups = NearDuplicates(
        described.ids, np.repeat(sample.data.groups.group[order], [len(of) for of in maps])
    )
    return Places(grid, padim.fit(described, groups, seed=seed))


def _descriptor(sample: Sample, rows: Tensor, seed: int, keeper: Keeper, name: str) -> Descriptor:
    """Principal axes of both kinds, kept: a resumed head's descriptors are the same to the last bit."""
    kept = keeper.load(f"axes-{name}")
    if kept is None:
        own = rows.nonzero()[:, 0]
        drawn = torch.randperm(len(own), generator=torch.Generator().manual_seed(seed))[:_AXES_PATCHES]
        fine = projection.principal_axes(sample.fine[own[drawn]])
        context = projection.principal_axes(sample.around[own[drawn]])
        kept = {
            "fine_mean": fine.mean,
            "fine_matrix": fine.matrix,
            "context_mean": context.mean,
            "context_matrix": context.matrix,
        }
        keeper.save(f"axes-{name}", kept)
    fitted = [Projection(kept[f"{kind}_mean"], kept[f"{kind}_matrix"]) for kind in ("fine", "context")]
    return Descriptor(fitted[0], fitted[1], sample.grid)
