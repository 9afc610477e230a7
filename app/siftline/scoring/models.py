"""The detectors in memory: each loaded once, the one unused longest dropped when room is short."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

from siftline.domain.errors import DetectorNotReady, NotFound, Unavailable
from siftline.scoring.detector import LoadedDetector
from siftline.store.session import DATABASE_AWAY

log = logging.getLogger(__name__)

BELIEVED_S = 1.0
"""A detector that was deleted through another process may answer this much longer."""
LOADS_AT_ONCE = 4
LOADED_WITHIN_S = 300.0
"""It takes a second. A database that falls silent in the middle must not hold every request for ever."""
RETRY_LOADED_S = 30
K = TypeVar("K", bound=Hashable)  # PEP 695 syntax needs Python 3.12


@dataclass(slots=True)
class _Entry:
    detector: LoadedDetector
    checked_at: float
    users: int = 0


class DetectorModels(Generic[K]):
    """Belongs to one event loop; only `forget` may be called from elsewhere.

    `load` and `require` block and run in threads: both raise NotFound, and DetectorNotReady.
    """

    def __init__(
        self,
        load: Callable[[K], LoadedDetector],
        require: Callable[[K], object],
        most_bytes: int,
    ) -> None:
        self._load, self._require = load, require
        self._most_bytes = most_bytes
        self._entries: dict[K, _Entry] = {}  # the one unused longest comes first
        self._loading: dict[K, asyncio.Task[_Entry]] = {}
        self._doubted: set[K] = set()  # forgotten while they were being loaded
        self._loads = CapacityLimiter(LOADS_AT_ONCE)  # of their own: a load keeps no other request waiting

    async def warm(self, detector_id: K) -> None:
        """Raises what using the detector would raise, and loads it meanwhile."""
        await self._entry(detector_id)

    @asynccontextmanager
    async def using(self, detector_id: K) -> AsyncIterator[LoadedDetector]:
        """The detector, not to be dropped meanwhile."""
        entry = await self._entry(detector_id)
        entry.users += 1
        try:
            yield entry.detector
        finally:
            entry.users -= 1
            self._make_room()

    def forget(self, detector_id: K) -> None:
        """It was deleted. Whoever is using it, or waits while it is loaded, may finish."""
        if detector_id in self._loading:
            self._doubted.add(detector_id)
        self._entries.pop(detector_id, None)

    @property
    def loaded(self) -> list[K]:
        """The one unused longest comes first."""
        return list(self._entries)

    @property
    def memory_bytes(self) -> int:
        """Of all that are loaded, as estimated."""
        return sum(entry.detector.memory_bytes for entry in list(self._entries.values()))

    async def _entry(self, detector_id: K) -> _Entry:
        entry = self._entries.get(detector_id)
        if entry is None:
            return await self._loaded_once(detector_id)
        if time.monotonic() - entry.checked_at > BELIEVED_S:
            await self._check(detector_id, entry)
        if self._entries.get(detector_id) is entry:  # it may have been dropped and loaded anew meanwhile
            with suppress(KeyError):  # another thread may forget it between the two looks
                self._entries[detector_id] = self._entries.pop(detector_id)
        return entry

    async def _check(self, detector_id: K, entry: _Entry) -> None:
        entry.checked_at = time.monotonic()  # first: the requests beside this one need not ask, too
        try:
            await to_thread.run_sync(self._require, detector_id)
        except (NotFound, DetectorNotReady):
            self.forget(detector_id)
            raise
        except DATABASE_AWAY as error:  # what is loaded needs no database
            log.warning("the database is away (%s)", type(error.orig).__name__)

    async def _loaded_once(self, detector_id: K) -> _Entry:
        task = self._loading.get(detector_id)
        if task is None:
            task = asyncio.create_task(self._load_one(detector_id))
            self._loading[detector_id] = task
            task.add_done_callback(partial(self._has_loaded, detector_id))
        await asyncio.wait([task], timeout=LOADED_WITHIN_S)  # which ends no task: others wait for it, too
        if not task.done():
            log.error("detector %s: not loaded within %g s", detector_id, LOADED_WITHIN_S)
            raise Unavailable("The detector is still being loaded.", retry_after_s=RETRY_LOADED_S)
        return task.result()

    def _has_loaded(self, detector_id: K, task: asyncio.Task[_Entry]) -> None:
        del self._loading[detector_id]
        if not task.cancelled():
            task.exception()  # looked at: nobody may be waiting any more

    async def _load_one(self, detector_id: K) -> _Entry:
        began = time.monotonic()
        detector = await to_thread.run_sync(self._load, detector_id, limiter=self._loads)
        log.info("detector %s: loaded in %.1f s", detector_id, time.monotonic() - began)
        entry = self._entries[detector_id] = _Entry(detector, checked_at=began)
        if detector_id in self._doubted:  # looked at only now: `forget` comes before the line above, or after
            self._doubted.discard(detector_id)
            entry.checked_at = -math.inf
        self._make_room()
        return entry

    def _make_room(self) -> None:
        entries = list(self._entries.items())  # in one step: `forget` may come from another thread
        over = sum(entry.detector.memory_bytes for _, entry in entries) - self._most_bytes
        # The newest stays even when it is too large alone: it would only be loaded again each time.
        for detector_id, entry in entries[:-1]:
            if over <= 0:
                return
            if entry.users == 0:
                log.info("detector %s: dropped to make room", detector_id)
                self.forget(detector_id)
                over -= entry.detector.memory_bytes
