"""What hangs together at each of several bars, from edges that come a few at a time and are kept by nobody.

Components are all that is ever asked of the edges, so they are what is kept: a group of g members has g
labels and not g² / 2 edges.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def singletons(bars: int, n: int) -> NDArray[np.int64]:
    """(bars, n) labels of positions that nothing joins yet."""
    return np.tile(np.arange(n), (bars, 1))


def joined(label: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) the lowest position each is connected to, when edges between `a` and `b` (edges,) come to those
    that made `label` (n,), of the same kind.
    """
    parent = label.copy()
    low, high = np.sort(parent[np.stack([a, b])], axis=0)
    while True:
        apart = low != high
        low, high = low[apart], high[apart]
        if not len(low):
            return parent
        # Each root that has an edge to a lower one hangs itself on the lowest of them: no circle can arise.
        np.minimum.at(parent, high, low)
        while (parent != (above := parent[parent])).any():
            parent = above
        low, high = np.sort(parent[np.stack([low, high])], axis=0)
