"""Where an image is suspect: the hot regions of its heat grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOT = 128
"""Half way from a typical normal patch (0) to the set's most suspect one (255)."""


@dataclass(frozen=True, slots=True)
class Region:
    """Neighbouring hot cells: the rectangle around them, in cells (ends not included), and their hottest."""

    top: int
    left: int
    bottom: int
    right: int
    cells: int
    peak: int


def hot_regions(heat: NDArray[np.uint8], threshold: int = HOT) -> list[Region]:
    """Regions of `heat` (rows, columns) at or above `threshold`, the hottest first.

    Cells that touch at a corner belong together: a scratch runs diagonally.
    """
    left_over = {(int(row), int(column)) for row, column in np.argwhere(heat >= threshold)}
    found = []
    while left_over:
        cells = _flooded(left_over, left_over.pop())
        rows, columns = zip(*cells, strict=True)
        found.append(
            Region(
                top=min(rows),
                left=min(columns),
                bottom=max(rows) + 1,
                right=max(columns) + 1,
                cells=len(cells),
                peak=max(int(heat[cell]) for cell in cells),
            )
        )
    return sorted(found, key=lambda region: (-region.peak, region.top, region.left))


def _flooded(left_over: set[tuple[int, int]], start: tuple[int, int]) -> list[tuple[int, int]]:
    cells, frontier = [start], [start]
    while frontier:
        row, column = frontier.pop()
        around = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left_over
        left_over -= around
        frontier += around
        cells += around
    return cells
