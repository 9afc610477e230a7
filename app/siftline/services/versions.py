"""What never changes about a version, kept in memory: reading 50,000 rows takes longer than a page may.

A version is immutable, so nothing here grows old. At worst two requests find out the same thing twice.
"""

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.store import gallery
from siftline.store.gallery import Order
from siftline.store.models import Purification
from siftline.store.selection import Filter

Ranks = NDArray[np.int32]
MOST_BYTES = 32 << 20


class _Kept:
    """Arrays by what they tell; the one that was not asked for longest goes first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._arrays: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: tuple[Any, ...], find_out: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            if key in self._arrays:
                self._arrays.move_to_end(key)
                return self._arrays[key]
        found = find_out()
        found.flags.writeable = False
        with self._lock:
            if key not in self._arrays:
                self._arrays[key] = found
                self._bytes += found.nbytes
            while self._bytes > self._most_bytes and len(self._arrays) > 1:
                self._bytes -= self._arrays.popitem(last=False)[1].nbytes
        return found


_kept = _Kept(MOST_BYTES)


def ranks(session: Session, version: Purification, wanted: Filter, order: Order) -> Ranks:
    """The ranks of all items that fit, in the order they are shown.

    Only what people say changes: a question about that goes to the database each time.
    """

    def find_out() -> Ranks:
        if wanted == Filter() and order == "suspect":  # all of them, and ranks have no gaps
            return np.arange(1, gallery.size(session, version.id) + 1, dtype=np.int32)
        return np.asarray(gallery.ranks(session, version.id, wanted, order), dtype=np.int32)

    if wanted.review is not None or wanted.effective is not None or order == "recent":
        return find_out()
    return _kept.get((version.id, wanted, order), find_out)


def leaders(session: Session, version: Purification) -> Ranks:
    """(images + 1,) by rank: the rank of the most suspect image of the same thing."""
    return _kept.get((version.id, "leaders"), lambda: _leaders(session, version.id))


def _leaders(session: Session, purification_id: UUID) -> Ranks:
    found = np.arange(gallery.size(session, purification_id) + 1, dtype=np.int32)
    first_rank: dict[UUID, int] = {}
    for rank, image_id, others in gallery.near_duplicates(session, purification_id):
        found[rank] = first_rank.setdefault(image_id, rank)
        for other in others:
            first_rank.setdefault(UUID(other), int(found[rank]))
    return found


def scores(session: Session, version: Purification) -> NDArray[np.float32]:
    """(images,): by rank, rank 1 first. The methods score in float32, so nothing is lost."""

    def find_out() -> NDArray[np.float32]:
        return np.asarray(gallery.scores(session, version.id), dtype=np.float32)

    return _kept.get((version.id, "scores"), find_out)
