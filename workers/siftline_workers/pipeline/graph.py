"""From features to the neighbour graph, piece by piece; of a set that has grown only what is new.

Some statistics speak of the whole set: the projection's axes, what all images have in common, the pool. They
are those of a *basis*, the first so many of the images. So what follows from the basis alone can be kept and
is still right when images are added: an earlier image's list of neighbours then only has to be compared with
what came to the pool. The answer depends on the images and on how many of them are the basis, never on what
happened to be kept.
"""

from dataclasses import dataclass
from typing import IO

import numpy as np

from siftline_workers.methods import near_duplicates, neighbours, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, NeighbourShard, Pool
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints
from siftline_workers.pipeline.stages import Progress, part

_IMAGES_PER_SHARD = 128


@dataclass(frozen=True, slots=True)
class Basis:
    """The images that the statistics are taken from: the first so many of the set."""

    images: int
    pieces: Checkpoints
    """What follows from them alone: of use to every set that begins with them."""


@dataclass(frozen=True, slots=True)
class Grouped:
    """Photographs of one thing among all images, and among the basis as if there were no others."""

    all: NearDuplicates
    basis: NearDuplicates


def projected(
    features: PatchFeatures, file: IO[bytes], basis: Basis, seed: int, progress: Progress
) -> PatchFeatures:
    """The features in fewer dimensions, in `file`: a large set must not fill the memory."""

    def fit() -> Arrays:
        fitted = projection.fit(features.first(basis.images), seed=seed)
        return {"mean": fitted.mean, "matrix": fitted.matrix}

    # Kept, so that a resumed run's shards are of the same space to the last bit, on whatever machine.
    kept = basis.pieces.once("projection", fit)
    fitted = projection.Projection(mean=kept["mean"], matrix=kept["matrix"])
    shape = (features.n_patches, fitted.matrix.shape[1])
    out = np.memmap(file, dtype=np.float16, mode="r+", shape=shape)
    return projection.project(features, fitted, out=out, on_progress=progress)


def grouped(
    features: PatchFeatures, basis: Basis, checkpoints: Checkpoints, seed: int, progress: Progress
) -> Grouped:
    """By the backbone's own features: projected ones keep what images share, not what tells them apart."""

    def find(among: PatchFeatures) -> Arrays:
        found = near_duplicates.find(among, basis=basis.images, seed=seed, on_progress=progress)
        return {"group": found.group}

    first = features.first(basis.images)
    earlier = NearDuplicates(first.ids, basis.pieces.once("groups", lambda: find(first))["group"])
    if basis.images == features.n_images:
        return Grouped(earlier, earlier)
    return Grouped(
        NearDuplicates(features.ids, checkpoints.once("groups", lambda: find(features))["group"]), earlier
    )


def neighbour_graph(
    reduced: PatchFeatures,
    groups: Grouped,
    basis: Basis,
    checkpoints: Checkpoints,
    *,
    seed: int,
    progress: Progress,
) -> NeighbourGraph:
    """The basis' own graph, brought up to date with what came later to the pool, and the later images'."""
    n, known = reduced.n_images, basis.images
    pool = neighbours.build_pool(reduced, basis=known, seed=seed)
    earlier, later = pool.part(pool.image < known), pool.part(pool.image >= known)

    def shard(start: int) -> NeighbourShard:
        stop = min(start + _IMAGES_PER_SHARD, known if start < known else n)
        watch = part(progress, start / n, stop / n)

        def search(bank: Pool, alike: NearDuplicates) -> NeighbourShard:
            return neighbours.search_shard(reduced, bank, alike, start, stop, on_progress=watch)

        def kept(pieces: Checkpoints, bank: Pool, alike: NearDuplicates) -> NeighbourShard:
            def arrays() -> Arrays:
                found = search(bank, alike)
                return {"distances": found.distances, "images": found.images}

            piece = pieces.once(f"neighbours-{start:07d}", arrays)
            return NeighbourShard(start, stop, piece["distances"], piece["images"])

        if start >= known:
            found = kept(checkpoints, pool, groups.all)
        else:
            found = kept(basis.pieces, earlier, groups.basis)
            if known < n:
                found = neighbours.merged(found, search(later, groups.all), groups.all, reduced.offsets)
        progress(stop / n)
        reduced.let_go()
        return found

    starts = [*range(0, known, _IMAGES_PER_SHARD), *range(known, n, _IMAGES_PER_SHARD)]
    return neighbours.join(map(shard, starts), reduced)
