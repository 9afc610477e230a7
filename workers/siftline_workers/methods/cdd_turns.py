"""How CDD's work is cut: batches of tiles, and turns of steps that are made side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]
Turn = list[tuple[int, Places]]
"""Steps to be made side by side: which domain's student, on which tiles."""


def batches(rows: Places, size: int) -> list[Places]:
    """Near-equal batches of about `size`: none of them too small for a batch norm."""
    return [part for part in np.array_split(rows, max(1, round(len(rows) / size))) if len(part) > 1]


def side_by_side(of_domain: list[list[Places]]) -> list[Turn]:
    """Turns of two domains each, a step of each; the same whatever the number of cores."""
    steps = [(step, k, rows) for k, mine in enumerate(of_domain) for step, rows in enumerate(mine)]
    turns: list[Turn] = []
    for _, k, rows in sorted(steps, key=lambda item: item[:2]):
        if turns and len(turns[-1]) < 2 and turns[-1][0][0] != k:
            turns[-1].append((k, rows))
        else:
            turns.append([(k, rows)])
    return turns
