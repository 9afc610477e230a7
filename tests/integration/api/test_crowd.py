"""When more is asked than can be answered soon, it says so at once, and whoever watches still sees it."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from anyio import to_thread

from siftline.main import create_app
from siftline.settings import Settings
from tests.integration.api.conftest import png

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def crowded(settings: Settings) -> Settings:
    return settings.model_copy(update={"waiting_requests": 3, "waiting_uploads": 2})


@asynccontextmanager
async def occupied(limiter: anyio.CapacityLimiter, waiting: int) -> AsyncIterator[None]:
    """All its threads are taken, and so many more wait for one."""
    release = threading.Event()
    async with anyio.create_task_group() as tasks:
        try:
            for _ in range(int(limiter.total_tokens) + waiting):
                tasks.start_soon(lambda: to_thread.run_sync(release.wait, limiter=limiter))
            while limiter.statistics().tasks_waiting < waiting:
                await anyio.sleep(0.01)
            yield
        finally:
            release.set()


def test_requests_beyond_the_line_are_refused_at_once_while_probes_are_answered(crowded: Settings) -> None:
    async def ask() -> None:
        app = create_app(crowded)
        everybody = to_thread.current_default_thread_limiter()
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 50000))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            async with occupied(everybody, crowded.waiting_requests):
                refused = await http.get("/datasets")
                alive, ready = await http.get("/healthz"), await http.get("/readyz")
            answered = await http.get("/datasets")
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["Retry-After"] == "1"
        assert alive.status_code == 200
        assert {error["loc"][0] for error in ready.json()["errors"]} == {"worker"}
        assert answered.status_code == 200

    anyio.run(ask)


def test_uploads_beyond_the_line_are_refused_before_they_are_read(crowded: Settings) -> None:
    async def ask() -> None:
        app = create_app(crowded)
        parts = app.state.parts
        await to_thread.run_sync(parts.spool.open)
        transport = httpx2.ASGITransport(app, client=("127.0.0.1", 50000))
        fields, files = {"name": "line"}, [("files", ("1.png", png(1, (20, 20))))]
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            async with occupied(parts.ingests, crowded.waiting_uploads):
                refused = await http.post("/datasets", data=fields, files=files)
                read = await http.get("/datasets")
            accepted = await http.post("/datasets", data=fields, files=files)
        await to_thread.run_sync(parts.spool.close)
        assert (refused.status_code, refused.json()["code"]) == (503, "busy")
        assert refused.headers["Retry-After"] == "5"
        assert read.status_code == 200
        assert accepted.status_code == 202

    anyio.run(ask)
