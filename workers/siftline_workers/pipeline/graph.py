"""From features to the neighbour graph, piece by piece; of a set that has grown only what is new.

Some statistics speak of the whole set: the projection's axes, what all images have in common, the pool. They
are those of a *basis*, the first so many of the images. So what follows from the basis alone can be kept and
is still right when images are added: an earlier image's list of neighbours then only has to be compared with
what came to the pool. The answer depends on the images and on how many of them are the basis, never on what
happened to be kept.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ImageId
from siftline_workers.methods import near_duplicates, neighbours
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import Commons, NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph, NeighbourShard, Pool
from siftline_workers.pipeline.checkpoints import Arrays, Checkpoints
from siftline_workers.pipeline.descriptions import Basis
from siftline_workers.pipeline.stages import Progress, part

_IMAGES_PER_SHARD = 128


@dataclass(frozen=True, slots=True)
class Grouped:
    """Photographs of one thing among all images, and among the basis as if there were no others."""

    all: NearDuplicates
    basis: NearDuplicates


def grouped(ids: tuple[ImageId, ...], sketches: NDArray[np.float32], basis: Basis, seed: int) -> Grouped:
    """By sketches (N, 2048) of the backbone's own features: projected ones keep what images share, not what
    tells them apart. A later image only has to be compared with the others.
    """
    known = basis.images

    def find() -> Arrays:
        commons = near_duplicates.common_modes(sketches[:known], ids[:known], seed)
        labels = near_duplicates.connected(sketches[:known], commons)
        return {**asdict(commons), "labels": labels}

    piece = basis.pieces.once("alike", find)
    first = NearDuplicates(ids[:known], near_duplicates.grouped(piece["labels"]))
    if known == len(ids):
        return Grouped(first, first)
    commons = Commons(*(piece[field.name] for field in fields(Commons)))
    labels = near_duplicates.connected(sketches, commons, piece["labels"])
    return Grouped(NearDuplicates(ids, near_duplicates.grouped(labels)), first)


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
