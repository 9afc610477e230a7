"""Pieces of work side by side on every core, each on one thread of its own.

Threads inside one small product wait for each other at every barrier: on a machine with other work that cost
three times the product itself (measured). Threads over images (or heads) never wait, and the arithmetic of
each stays the same however many there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from threading import Event

import torch

from siftline_workers.methods.seeding import Progress, ignore_progress

_POLL_S = 0.2


def for_each(
    work: Callable[[int], None], start: int, stop: int, on_progress: Progress = ignore_progress
) -> None:
    """Call `work(i)` for start <= i < stop, in any order.

    `on_progress` is called in the caller's thread, several times a second. What it or `work` raises leaves
    here once all threads are idle.
    """
    threads = os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        waiting: deque[Future[None]] = deque()
        for i in range(start, stop):
            waiting.append(pool.submit(work, i))
            if len(waiting) >= 4 * threads:
                _finish(
                    waiting.popleft(), partial(on_progress, max(0, i - 4 * threads - start) / (stop - start))
                )
        while waiting:
            left = len(waiting)
            _finish(waiting.popleft(), partial(on_progress, 1 - left / (stop - start)))
        on_progress(1.0)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def for_each_long(work: Callable[[int, Progress], None], count: int, on_progress: Progress) -> None:
    """`for_each` of work that takes long: each tells its own progress, by what raises as soon as
    `on_progress` has.
    """
    stopped, done = Event(), [0.0] * count

    def do(i: int) -> None:
        def tell(share: float) -> None:
            done[i] = share
            if stopped.is_set():
                raise InterruptedError

        work(i, tell)
        done[i] = 1.0

    def watch(_share: float) -> None:
        try:
            on_progress(sum(done) / max(1, count))
        except BaseException:
            stopped.set()
            raise

    for_each(do, 0, count, watch)


def _finish(future: Future[None], report: Callable[[], None]) -> None:
    while not wait([future], timeout=_POLL_S).done:
        report()
    future.result()
    report()
