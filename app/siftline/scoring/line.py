"""The line in front of the scoring threads: short, fair, and honest about how long it takes.

A call that never returns (a deadlock in a library, a disk that does not answer) holds its thread for ever:
nothing ends a thread. So who waits for it is told, and the process says that it wants to be restarted.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import TypeVar

from anyio import CapacityLimiter, create_task_group, move_on_after, to_thread

from siftline.domain.errors import TooManyRequests, Unavailable
from siftline.scoring.network import threads

log = logging.getLogger(__name__)

T = TypeVar("T")
FIRST_GUESS_S = 0.05
NEWEST_COUNTS = 0.1
RESTARTED_WITHIN_S = 30


class ScoringStandsStill(Unavailable):
    code = "scoring-stands-still"
    title = "Scoring stands still"


class ScoringLine:
    """Belongs to one event loop. A few threads of its own: uploads and trainings have others."""

    def __init__(self, most_waiting: int, patience_s: float = 0.0) -> None:
        """An image whose thread has not come back after `patience_s` is given up (0: never)."""
        self.most_waiting = most_waiting
        # More threads than streams: while they read and decode the next images, no stream is idle.
        self._lanes = threads() + 2
        self._turns = CapacityLimiter(self._lanes)
        self._threads = CapacityLimiter(self._lanes)
        self._patience_s = patience_s or math.inf
        self._given_up: set[asyncio.Task[object]] = set()
        self._working: dict[int, float] = {}
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

    @property
    def stuck(self) -> int:
        """Images whose threads were given up and have not come back."""
        return len(self._given_up)

    @property
    def standstill(self) -> str:
        """What is wrong, in words for an operator; empty while nothing is."""
        if not self._given_up:
            return ""
        return (
            f"{self.stuck} of {self._lanes} scoring threads have not come back within "
            f"{self._patience_s:g} s: the log says where they stand; restart the process"
        )

    @property
    def is_working(self) -> bool:
        """Whether a thread is busy with an image, wanted or not. Python does not exit before it is done."""
        return bool(self._working)

    async def run(self, works: Sequence[Callable[[], T]]) -> list[T]:
        """What each work returns, in order. Raises ScoringStandsStill when one does not return.

        Fair: a request has no more works out at a time than there are threads, so a request of one image
        waits for a few images of each request before it and not for all of them.
        """
        if len(works) == 1:
            return [await self._one(works[0])]
        answers: dict[int, T] = {}
        failed: list[Exception] = []
        numbered = iter(enumerate(works))

        async def lane() -> None:
            try:
                for number, work in numbered:
                    answers[number] = await self._one(work)
            except Exception as error:
                failed.append(error)
                group.cancel_scope.cancel()

        async with create_task_group() as group:
            for _ in range(min(self._lanes, len(works))):
                group.start_soon(lane)
        for error in failed:
            raise error
        return [answers[number] for number in range(len(works))]

    async def _one(self, work: Callable[[], T]) -> T:
        thread = await self._begun(work)
        await asyncio.wait([thread], timeout=None if self._patience_s == math.inf else self._patience_s)
        if not thread.done():
            self._give_up(thread)
            raise self._stands_still()
        return thread.result()

    async def _begun(self, work: Callable[[], T]) -> asyncio.Task[T]:
        """In its thread. The turn is over when the thread comes back, not when its image is given up."""
        turn, has_turn = object(), False
        while not has_turn:
            if self.stuck == self._lanes:
                raise self._stands_still()
            with move_on_after(self._patience_s):
                await self._turns.acquire_on_behalf_of(turn)
                has_turn = True
        call = to_thread.run_sync(self._timed, work, limiter=self._threads, abandon_on_cancel=True)
        thread = asyncio.ensure_future(call)
        thread.add_done_callback(partial(self._came_back, turn))
        return thread

    def _came_back(self, turn: object, thread: asyncio.Task[object]) -> None:
        self._turns.release_on_behalf_of(turn)
        if not thread.cancelled():
            thread.exception()  # looked at: of one that was given up nobody else asks
        if thread in self._given_up:
            self._given_up.discard(thread)
            log.warning("a scoring thread that was given up has come back")

    def _give_up(self, thread: asyncio.Task[T]) -> None:
        self._given_up.add(thread)
        frames, now_s = sys._current_frames(), time.monotonic()
        stacks = [
            f"thread {ident}, at it for {now_s - self._working.get(ident, now_s):.1f} s:\n"
            + "".join(traceback.format_stack(frame))
            for ident, frame in frames.items()
        ]
        log.error("%s\n%s", self.standstill, "\n".join(stacks))

    def _stands_still(self) -> ScoringStandsStill:
        return ScoringStandsStill(
            f"An image was not scored within {self._patience_s:g} s. The server has been told to restart.",
            retry_after_s=RESTARTED_WITHIN_S,
        )

    def _timed(self, work: Callable[[], T]) -> T:
        began = self._working[get_ident()] = time.monotonic()
        try:
            return work()
        finally:
            del self._working[get_ident()]
            self.image_s += NEWEST_COUNTS * (time.monotonic() - began - self.image_s)
