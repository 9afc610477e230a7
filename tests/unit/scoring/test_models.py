"""Detectors in memory: loaded once, kept while there is room, dropped when they are gone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import OperationalError

from siftline import schemas
from siftline.domain.errors import NotFound, Unavailable
from siftline.scoring import models
from siftline.scoring.detector import LoadedDetector, assemble
from siftline.scoring.models import DetectorModels
from tests.conftest import PATIENCE_S
from tests.integration.detecting import calibration_json, edges_onnx


@cache
def a_detector() -> LoadedDetector:
    ref = schemas.DetectorRef(id=uuid4(), name="edges", method="funad", version=1)
    return replace(assemble(ref, calibration_json(), edges_onnx()), memory_bytes=100)


class Shelf:
    """Where detectors are loaded from; counts, and can be made to take its time."""

    def __init__(self) -> None:
        self.loads: list[UUID] = []
        self.gone: set[UUID] = set()
        self.slow: dict[UUID, threading.Event] = {}
        self.error: Exception | None = None

    def load(self, detector_id: UUID) -> LoadedDetector:
        self.loads.append(detector_id)
        if detector_id in self.slow:
            assert self.slow[detector_id].wait(PATIENCE_S)
        self.require(detector_id)
        return replace(a_detector())

    def require(self, detector_id: UUID) -> None:
        if self.error is not None:
            raise self.error
        if detector_id in self.gone:
            raise NotFound("gone")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def run(shelf: Shelf) -> Callable[..., None]:
    def start(story: Callable[[DetectorModels[UUID]], Awaitable[None]], most_bytes: int = 250) -> None:
        async def told() -> None:
            await asyncio.wait_for(story(DetectorModels(shelf.load, shelf.require, most_bytes)), PATIENCE_S)

        asyncio.run(told())

    return start


def test_requests_that_come_together_wait_for_one_load(run: Callable[..., None], shelf: Shelf) -> None:
    detector_id = uuid4()
    shelf.slow[detector_id] = threading.Event()

    async def story(kept: DetectorModels[UUID]) -> None:
        waiting = [asyncio.create_task(kept.warm(detector_id)) for _ in range(8)]
        await asyncio.sleep(0.05)
        waiting[0].cancel()  # the one that began to load goes away
        shelf.slow[detector_id].set()
        await asyncio.gather(*waiting[1:])
        assert shelf.loads == [detector_id]

    run(story)


def test_who_waits_for_a_load_that_does_not_end_is_told_and_who_comes_after_its_end_is_answered(
    run: Callable[..., None], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "LOADED_WITHIN_S", 0.05)
    detector_id = uuid4()
    shelf.slow[detector_id] = threading.Event()

    async def story(kept: DetectorModels[UUID]) -> None:
        with pytest.raises(Unavailable):
            await kept.warm(detector_id)
        shelf.slow[detector_id].set()
        while not kept.loaded:
            await asyncio.sleep(0.01)
        await kept.warm(detector_id)
        assert shelf.loads == [detector_id]

    run(story)


def test_another_detector_answers_while_one_loads(run: Callable[..., None], shelf: Shelf) -> None:
    slow, quick = uuid4(), uuid4()
    shelf.slow[slow] = threading.Event()

    async def story(kept: DetectorModels[UUID]) -> None:
        waiting = asyncio.create_task(kept.warm(slow))
        async with kept.using(quick) as detector:
            assert detector.ref == a_detector().ref
        assert not waiting.done()
        shelf.slow[slow].set()
        await waiting

    run(story)


def test_the_one_unused_longest_makes_room(run: Callable[..., None], shelf: Shelf) -> None:
    a, b, c = uuid4(), uuid4(), uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        for detector_id in (a, b, a, c):
            await kept.warm(detector_id)
        assert kept.loaded == [a, c]
        await kept.warm(b)
        assert shelf.loads == [a, b, c, b]

    run(story)


class ForgottenBetweenTwoLooks(dict[Any, Any]):
    """As when another thread forgets a detector just after it was found for the second time."""

    looks = 0

    def get(self, key: Any, default: Any = None) -> Any:
        found, self.looks = super().get(key, default), self.looks + 1
        if self.looks == 2:
            self.pop(key)
        return found


def test_who_asks_while_another_thread_forgets_is_still_answered(
    run: Callable[..., None], shelf: Shelf
) -> None:
    a = uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        await kept.warm(a)
        kept._entries = ForgottenBetweenTwoLooks(kept._entries)
        async with kept.using(a) as detector:
            assert detector.ref == a_detector().ref
        assert kept.loaded == []

    run(story)


def test_one_in_use_is_never_dropped(run: Callable[..., None], shelf: Shelf) -> None:
    a, b, c = uuid4(), uuid4(), uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        async with kept.using(a), kept.using(b):
            await kept.warm(c)
            assert kept.loaded == [a, b, c]  # too many, but all are needed
        assert kept.loaded == [a, c]  # b was free first

    run(story)


def test_a_detector_too_large_for_the_room_is_kept_while_it_is_the_only_one(
    run: Callable[..., None], shelf: Shelf
) -> None:
    a = uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        for _ in range(3):
            async with kept.using(a):
                pass
        assert shelf.loads == [a]

    run(story, most_bytes=1)


def test_one_deleted_elsewhere_is_noticed_and_whoever_uses_it_may_finish(
    run: Callable[..., None], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "BELIEVED_S", 0.0)
    a = uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        async with kept.using(a) as detector:
            shelf.gone.add(a)
            with pytest.raises(NotFound):
                await kept.warm(a)
            assert kept.loaded == []
            assert detector.side == 32

    run(story)


def test_what_is_loaded_goes_on_scoring_while_the_database_is_away(
    run: Callable[..., None], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "BELIEVED_S", 0.0)
    a = uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        await kept.warm(a)
        shelf.error = OperationalError("SELECT 1", {}, Exception("away"))
        async with kept.using(a) as detector:
            assert detector.side == 32

    run(story)


def test_one_loaded_anew_while_its_row_was_looked_at_is_kept(
    run: Callable[..., None], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector_id, may_look = uuid4(), threading.Event()
    monkeypatch.setattr(models, "BELIEVED_S", -1.0)
    monkeypatch.setattr(shelf, "load", lambda _: replace(a_detector()))
    monkeypatch.setattr(shelf, "require", lambda _: may_look.wait(PATIENCE_S))

    async def story(kept: DetectorModels[UUID]) -> None:
        await kept.warm(detector_id)
        looking = asyncio.create_task(kept.warm(detector_id))
        await asyncio.sleep(0.05)
        kept.forget(detector_id)
        await kept.warm(detector_id)
        may_look.set()
        await looking
        assert kept.loaded == [detector_id]

    run(story)


def test_a_load_that_failed_is_tried_again_by_the_next_request(
    run: Callable[..., None], shelf: Shelf
) -> None:
    a = uuid4()

    async def story(kept: DetectorModels[UUID]) -> None:
        shelf.gone.add(a)
        with pytest.raises(NotFound):
            await kept.warm(a)
        shelf.gone.clear()
        await kept.warm(a)
        assert kept.loaded == [a]

    run(story)
