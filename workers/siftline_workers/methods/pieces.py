"""Pieces of one stage that do not depend on each other: the same, whoever computes which, and in what order.

Each piece runs on one thread from its own seed, so its bits follow from the content alone. `alone` does them
all; the pipeline has a `Share` by which other workers do some of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from siftline.domain.jobs import Work
from siftline_workers.methods.parallel import for_each_long
from siftline_workers.methods.seeding import Progress

Arrays = Mapping[str, NDArray[Any]]
Compute = Callable[[int, Progress], Arrays]
"""One piece's arrays. The progress is the piece's own."""


class Keeper(Protocol):
    """Where finished work is kept, so that a run that was killed goes on where it stood."""

    def load(self, name: str) -> Arrays | None:
        """What was saved last under `name`; None if nothing was, or it is torn."""
        ...

    def save(self, name: str, arrays: Arrays) -> None:
        """Whole or not at all; replaces what was saved under `name` before."""
        ...


Share = Callable[[Keeper, Work, range, Compute, Progress], list[Arrays]]
"""Gives the arrays of all these pieces, in their order, each kept in the keeper once it was computed. The
progress may raise to cancel."""


def name_of(work: Work, piece: int) -> str:
    """What a piece is kept under."""
    return f"{work}-{piece}"


def alone(keeper: Keeper, work: Work, pieces: range, compute: Compute, on_progress: Progress) -> list[Arrays]:
    """Fulfils `Share`: side by side in this process, in their order."""
    found: list[Arrays] = [{}] * len(pieces)

    def find(place: int, progress: Progress) -> None:
        name = name_of(work, pieces[place])
        kept = keeper.load(name)
        if kept is None:
            kept = compute(pieces[place], progress)
            keeper.save(name, kept)
        found[place] = kept

    for_each_long(find, len(pieces), on_progress)
    return found
