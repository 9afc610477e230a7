"""The line in front of the scoring threads: short, fair, and honest about how long it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from anyio import CapacityLimiter, create_task_group, to_thread

from siftline.domain.errors import TooManyRequests
from siftline.scoring.network import threads

T = TypeVar("T")
FIRST_GUESS_S = 0.05
NEWEST_COUNTS = 0.1


class ScoringLine:
    """Belongs to one event loop. A few threads of its own: uploads and trainings have others."""

    def __init__(self, most_waiting: int) -> None:
        self.most_waiting = most_waiting
        # More threads than streams: while they read and decode the next images, no stream is idle.
        self._lanes = threads() + 2
        self._turns = CapacityLimiter(self._lanes)
        self.waiting = 0
        self.image_s = FIRST_GUESS_S

    @contextmanager
    def places(self, images: int) -> Iterator[None]:
        """Room for so many images. Raises TooManyRequests; an empty line takes any number."""
        if self.waiting and self.waiting + images > self.most_waiting:
            raise TooManyRequests(
                f"{self.waiting} images are waiting to be scored; at most {self.most_waiting} may.",
                retry_after_s=max(1, math.ceil(self.waiting * self.image_s / self._lanes)),
            )
        self.waiting += images
        try:
            yield
        finally:
            self.waiting -= images

    async def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """What each work returns, in order.

        Fair: a request has no more works out at a time than there are threads, so a request of one image
        waits for a few images of each request before it and not for all of them.
        """
        if len(works) == 1:
            return [await self._one(works[0])]
        answers: dict[int, T] = {}
        numbered = iter(enumerate(works))

        async def lane() -> None:
            for number, work in numbered:
                answers[number] = await self._one(work)

        async with create_task_group() as group:
            for _ in range(min(self._lanes, len(works))):
                group.start_soon(lane)
        return [answers[number] for number in range(len(works))]

    async def _one(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(self._timed, work, limiter=self._turns)

    def _timed(self, work: Callable[[], T]) -> T:
        began = time.monotonic()
        try:
            return work()
        finally:
            self.image_s += NEWEST_COUNTS * (time.monotonic() - began - self.image_s)
