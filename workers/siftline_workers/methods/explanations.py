"""Why an image is ranked where it is: its oddest patch beside the nearest patches of other things.

The graph knows which images a patch comes nearest to, not where in them, and it knows only a sample of their
patches. So the one patch that is shown is compared again, exactly, with every patch of the few nearest
images: cost is linear in images, whatever the size of the set.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.parallel import for_each
from siftline_workers.methods.seeding import Progress, ignore_progress

SHOWN = 3
_CANDIDATES = (
    8  # images compared in full: the graph's order is nearly the exact one (same nearest for 99.6 %)
)

Box = tuple[float, float, float, float]
"""left, top, right, bottom in fractions of the image's width and height."""


@dataclass(frozen=True, slots=True)
class OddestPatches:
    """One patch of each of N images, and up to three patches of other things that come nearest to it."""

    rows: NDArray[np.int64]
    """(N,) rows of the features."""
    neighbours: NDArray[np.int64]
    """(N, 3) rows of the features, each of another thing: those of images that look clean first, and among
    them the nearest; -1 where there is none."""
    distances: NDArray[np.float32]
    """(N, 3) to the neighbours, in the space that is searched; +inf where there is none."""

    distance: NDArray[np.float32]
    """(N,) to the nearest neighbour that is shown; 0 without any: no evidence against the patch."""
    typical_distance: float
    """Median of them: what an oddest patch usually comes to in this set."""


def oddest_patches(
    features: PatchFeatures,
    graph: NeighbourGraph,
    groups: NearDuplicates,
    heat: NDArray[np.float32],
    looks_clean: NDArray[np.bool_],
    *,
    on_progress: Progress = ignore_progress,
) -> OddestPatches:
    """Of all N images: the hottest patch by `heat` (patches,), explained by images that look clean (N,).

    `features` are those the graph was searched in. Near-duplicates never explain each other.
    """
    n = features.n_images
    rows = np.array([_hottest(features, graph, heat, i) for i in range(n)], np.int64)
    neighbours = np.full((n, SHOWN), -1, np.int64)
    distances = np.full((n, SHOWN), np.inf, np.float32)

    def explain(i: int) -> None:
        near = graph.images[rows[i]]
        near = near[near >= 0]
        near = near[np.argsort(~looks_clean[near], kind="stable")][:_CANDIDATES]
        found = [_nearest_patch(features, int(rows[i]), int(other)) for other in near]
        # Equally near ones by id, or the answer would depend on the order of the input.
        order = sorted(
            range(len(near)), key=lambda c: (not looks_clean[near[c]], found[c][0], features.ids[near[c]])
        )
        first_of_thing: dict[int, int] = {}
        for c in order:
            first_of_thing.setdefault(int(groups.group[near[c]]), c)
        for place, c in enumerate(list(first_of_thing.values())[:SHOWN]):
            distances[i, place], neighbours[i, place] = found[c]

    for_each(explain, 0, n, on_progress)
    nearest = distances.min(axis=1)
    distance = np.where(np.isfinite(nearest), nearest, 0).astype(np.float32)
    return OddestPatches(rows, neighbours, distances, distance, float(np.median(distance)) if n else 0.0)


def surroundings(features: PatchFeatures, row: int) -> Box:
    """The part of its image that a patch's descriptor speaks of: the patch and the ring around it."""
    i = image_of(features, row)
    rows, columns = features.grid(i)
    r, c = divmod(row - int(features.offsets[i]), columns)
    left, right = max(c - 1, 0) / columns, min(c + 2, columns) / columns
    return left, max(r - 1, 0) / rows, right, min(r + 2, rows) / rows


def image_of(features: PatchFeatures, row: int) -> int:
    """Position of the image that owns a patch row."""
    return int(np.searchsorted(features.offsets, row, side="right")) - 1


def _hottest(features: PatchFeatures, graph: NeighbourGraph, heat: NDArray[np.float32], i: int) -> int:
    """Row of image i's hottest patch; where several have reached the scale's end, the farthest of them."""
    start, stop = int(features.offsets[i]), int(features.offsets[i + 1])
    own = heat[start:stop]
    hottest = np.flatnonzero(own == own.max())
    nearest = graph.distances[start:stop, 0][hottest]
    return start + int(hottest[np.argmax(np.where(np.isfinite(nearest), nearest, -1))])


def _nearest_patch(features: PatchFeatures, row: int, other: int) -> tuple[float, int]:
    """Distance and row of the patch of image `other` that is nearest to a patch."""
    difference = features.wide(other) - features.patches[row]
    squared = np.einsum("pd,pd->p", difference, difference)
    nearest = int(squared.argmin())
    return float(np.sqrt(squared[nearest])), int(features.offsets[other]) + nearest
