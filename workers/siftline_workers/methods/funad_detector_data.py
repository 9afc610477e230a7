"""What all heads of one detector learn from, made once: descriptors, neighbour graph, a sample of patches.

Cost is linear in images, the sample is bounded. The principal axes are fitted on all images, those that
calibrate among them: they are blind to what is anomalous, and memory and head, which are not, see only their
own fold's images.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from siftline_workers.methods import neighbours, projection
from siftline_workers.methods.detectors import Keeper, TrainingSet
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_detector_network import Descriptor, surroundings
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, NeighbourShard, Pool
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.projection import Projection
from siftline_workers.methods.seeding import Progress, image_rng, shuffled

MEMORY_PATCHES = 8192
_SAMPLE = 65_536  # patches that heads learn from
_FIT_IMAGES, _FIT_PATCHES = 1024, 16
_IMAGES_PER_SHARD = 256


@dataclass(frozen=True, slots=True)
class FunadData:
    """Shared by all folds; nothing in it changes while heads learn."""

    features: PatchFeatures
    """The backbone's own."""
    descriptor: Descriptor
    graph: NeighbourGraph
    """Of context descriptors; an image's rows tile by tile. Own image and near-duplicates left out."""
    pool: Pool
    """Context descriptors that memories are made of."""
    rows: NDArray[np.int64]
    """(R,) rows of the graph that are in the sample."""
    image: NDArray[np.int32]
    """(R,): whose they are."""
    sample: Tensor
    """(R, 2 d): their fine and context descriptors side by side."""


def prepare(data: TrainingSet, grid: int, seed: int, keeper: Keeper, on_progress: Progress) -> FunadData:
    """`grid`: patches a tile's side. Pieces that an earlier attempt kept are not made again."""
    features = data.features
    kept = _once(keeper, "axes", lambda: _axes(features, grid, seed))
    fine, context = (Projection(kept[f"{name}_mean"], kept[f"{name}_matrix"]) for name in ("fine", "context"))
    descriptor = Descriptor(fine, context, grid)
    described, sample, rows = _described(
        features, descriptor, seed, lambda share: on_progress(0.05 + 0.4 * share)
    )
    pool = neighbours.build_pool(described, max_patches=MEMORY_PATCHES, seed=seed)
    graph = _graph(described, pool, data.groups, keeper, lambda share: on_progress(0.45 + 0.55 * share))
    return FunadData(features, descriptor, graph, pool, rows, features.image_index[rows], sample)


def tiles_of(features: PatchFeatures, i: int, grid: int) -> Tensor:
    """(T, g * g, D) float32: image i's patches tile by tile, as the backbone made them."""
    rows, columns = features.grid(i)
    patches = torch.from_numpy(features.of(i).astype(np.float32))
    cells = patches.view(rows // grid, grid, columns // grid, grid, -1).transpose(1, 2)
    return cells.reshape(-1, grid * grid, features.dim)


def _once(
    keeper: Keeper, name: str, compute: Callable[[], Mapping[str, NDArray[Any]]]
) -> Mapping[str, NDArray[Any]]:
    kept = keeper.load(name)
    if kept is None:
        kept = compute()
        keeper.save(name, kept)
    return kept


def _axes(features: PatchFeatures, grid: int, seed: int) -> dict[str, NDArray[Any]]:
    """Principal axes of fine and of context descriptors, from a bounded random sample."""
    chosen = shuffled(features.ids, seed, "funad-axes")[:_FIT_IMAGES]
    parts = [(torch.empty(0), torch.empty(0))] * len(chosen)

    def draw(place: int) -> None:
        i = int(chosen[place])
        patches = tiles_of(features, i, grid)
        around = surroundings(patches, grid).flatten(0, 1)
        drawn = image_rng(features.ids[i], seed, "funad-axes-patches").permutation(len(around))[:_FIT_PATCHES]
        picked = torch.from_numpy(drawn)
        parts[place] = (patches.flatten(0, 1)[picked], around[picked])

    for_each(draw, 0, len(chosen))
    fine, context = (projection.principal_axes(torch.cat(column)) for column in zip(*parts, strict=True))
    return {
        "fine_mean": fine.mean,
        "fine_matrix": fine.matrix,
        "context_mean": context.mean,
        "context_matrix": context.matrix,
    }


def _described(
    features: PatchFeatures, descriptor: Descriptor, seed: int, on_progress: Progress
) -> tuple[PatchFeatures, Tensor, NDArray[np.int64]]:
    """Context descriptors of all patches, tile by tile, in a file without a name; both kinds of a sample's,
    and its rows.
    """
    n, dim = features.n_images, descriptor.get_buffer("context_matrix").shape[1]
    with tempfile.TemporaryFile() as file:
        out = np.memmap(file, np.float16, "w+", shape=(features.n_patches, dim))
    rows = [
        image_rng(features.ids[i], seed, "funad-sample").permutation(int(size))[: max(1, _SAMPLE // n)]
        for i, size in enumerate(np.diff(features.offsets))
    ]
    sample = [torch.empty(0)] * n

    def describe(i: int) -> None:
        with torch.inference_mode():
            fine, context = descriptor(tiles_of(features, i, descriptor.grid))
        out[features.offsets[i] : features.offsets[i + 1]] = context.flatten(0, 1).numpy()
        sample[i] = torch.cat([fine, context], dim=2).flatten(0, 1)[torch.from_numpy(rows[i])]

    for_each(describe, 0, n, on_progress)
    described = PatchFeatures(features.ids, out, features.offsets, features.grids)
    starts = features.offsets[:-1]
    in_all = [own + start for own, start in zip(rows, starts, strict=True)]
    return described, torch.cat(sample).clone(), np.concatenate(in_all)


def _graph(
    described: PatchFeatures, pool: Pool, groups: NearDuplicates, keeper: Keeper, on_progress: Progress
) -> NeighbourGraph:
    shards = []
    for start in range(0, described.n_images, _IMAGES_PER_SHARD):
        stop = min(start + _IMAGES_PER_SHARD, described.n_images)

        def report(share: float, start: int = start, stop: int = stop) -> None:
            on_progress((start + share * (stop - start)) / described.n_images)

        def search(
            start: int = start, stop: int = stop, report: Progress = report
        ) -> dict[str, NDArray[Any]]:
            shard = neighbours.search_shard(described, pool, groups, start, stop, on_progress=report)
            return {"distances": shard.distances, "images": shard.images}

        kept = _once(keeper, f"graph-{start:07d}", search)
        shards.append(NeighbourShard(start, stop, kept["distances"], kept["images"]))
        report(1.0)
    return neighbours.join(shards, described)
