"""The line in front of the scoring threads: bounded, in turns, in order."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from siftline.domain.errors import TooManyRequests
from siftline.scoring.line import ScoringLine
from siftline.scoring.network import threads


def test_answers_come_in_the_order_of_the_works() -> None:
    async def story() -> list[int]:
        return await ScoringLine(10).run([lambda n=n: n for n in range(20)])  # type: ignore[misc]  # mypy on lambdas

    assert asyncio.run(story()) == list(range(20))


def test_one_image_does_not_wait_for_all_of_a_large_request() -> None:
    done: list[str] = []
    lock = threading.Lock()
    begun = threading.Event()

    def work(name: str) -> Callable[[], None]:
        def run() -> None:
            begun.set()
            with lock:
                done.append(name)

        return run

    async def story() -> None:
        line = ScoringLine(1000)
        large = asyncio.create_task(line.run([work("large")] * 500))
        await asyncio.to_thread(begun.wait)
        await line.run([work("small")])
        await large

    asyncio.run(story())
    assert len(done) == 501
    assert done.index("small") < 400


def test_no_more_works_run_at_once_than_there_are_threads() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    async def story() -> None:
        line = ScoringLine(1000)
        await asyncio.gather(*(line.run([work] * 5) for _ in range(20)))

    asyncio.run(story())
    assert most <= threads() + 2


def test_a_full_line_says_when_to_come_back() -> None:
    line = ScoringLine(4)
    with line.places(3):
        with line.places(1), pytest.raises(TooManyRequests) as refused, line.places(1):
            pass
        assert refused.value.extra["retry_after_s"] == 1
        with pytest.raises(TooManyRequests), line.places(2):
            pass
    with line.places(100):  # nobody waits, so that a large request has a chance at all
        pass


def test_places_are_free_again_after_an_error() -> None:
    line = ScoringLine(1)

    def broken() -> None:
        raise ValueError("for a test")

    async def story() -> None:
        with line.places(1):
            await line.run([broken])

    for _ in range(3):
        with pytest.raises(ValueError, match="for a test"):
            asyncio.run(story())
