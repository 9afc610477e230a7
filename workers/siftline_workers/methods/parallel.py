"""One image after another on every core, each on one thread of its own.

Threads inside one small product wait for each other at every barrier: on a machine with other work that cost
three times the product itself (measured). Threads over images never wait, and an image's arithmetic stays the
same however many there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from siftline_workers.methods.seeding import Progress


def for_each_image(
    work: Callable[[int], None], start: int, stop: int, on_progress: Progress = lambda _share: None
) -> None:
    """Call `work(i)` for start <= i < stop in any order. What `work` or `on_progress` raises leaves here after
    all threads are idle."""
    threads = os.cpu_count() or 1
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            waiting: deque[Future[None]] = deque()
            done = start
            try:
                for i in range(start, stop):
                    waiting.append(pool.submit(work, i))
                    if len(waiting) >= 4 * threads:
                        waiting.popleft().result()
                        done += 1
                        on_progress((done - start) / (stop - start))
                while waiting:
                    waiting.popleft().result()
                on_progress(1.0)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(before)
