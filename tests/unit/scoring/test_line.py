"""The line in front of the scoring threads: bounded, in turns, in order."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from siftline.domain.errors import TooManyRequests
from siftline.scoring.line import RESTARTED_WITHIN_S, ScoringLine, ScoringStandsStill
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


SOON_S = 1.0  # much longer than an idle thread needs on a busy machine
LANES = threads() + 2


async def comes_back(line: ScoringLine) -> None:
    async with asyncio.timeout(30):
        while line.stuck:
            await asyncio.sleep(0.01)


def test_an_image_whose_thread_hangs_is_given_up_and_others_are_scored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wakes = threading.Event()

    def hang_in_a_library() -> None:
        wakes.wait()

    async def story() -> None:
        line = ScoringLine(10, SOON_S)
        assert line.standstill == ""
        with pytest.raises(ScoringStandsStill) as refused, line.places(2):
            await line.run([hang_in_a_library, lambda: None])
        assert refused.value.status == 503
        assert refused.value.extra["retry_after_s"] == RESTARTED_WITHIN_S
        assert line.stuck == 1
        assert line.is_working
        assert f"1 of {LANES} scoring threads" in line.standstill
        assert "in hang_in_a_library" in caplog.text, "where it stands"
        assert line.waiting == 0
        assert await ScoringLine.run(line, [lambda: 7]) == [7]
        wakes.set()
        await comes_back(line)
        assert line.standstill == ""
        assert not line.is_working

    asyncio.run(story())


def test_nobody_waits_in_a_line_whose_threads_all_hang() -> None:
    wakes = threading.Event()

    async def story() -> None:
        line = ScoringLine(1000, SOON_S)
        hangs: list[Callable[[], object]] = [wakes.wait]
        requests = [line.run(hangs) for _ in range(LANES)] + [line.run([object]) for _ in range(3)]
        ends = await asyncio.gather(*requests, return_exceptions=True)
        assert [type(end) for end in ends] == [ScoringStandsStill] * (LANES + 3)
        with pytest.raises(ScoringStandsStill):
            await line.run([object])
        wakes.set()
        await comes_back(line)
        assert len(await line.run([object] * 3)) == 3

    asyncio.run(story())


def test_who_goes_away_leaves_the_thread_its_turn() -> None:
    wakes, begun = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        wakes.wait()

    async def story() -> None:
        line = ScoringLine(10, 30.0)
        request = asyncio.create_task(line.run([work]))
        await asyncio.to_thread(begun.wait)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert line.is_working
        wakes.set()
        async with asyncio.timeout(30):
            while line.is_working:
                await asyncio.sleep(0.01)
        assert len(await line.run([object] * (2 * LANES))) == 2 * LANES

    asyncio.run(story())


def test_an_error_of_one_image_of_many_comes_as_it_is() -> None:
    def broken() -> None:
        raise ValueError("for a test")

    with pytest.raises(ValueError, match="for a test"):
        asyncio.run(ScoringLine(10).run([object, broken, object]))
