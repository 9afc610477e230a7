"""The review page: server-rendered templates, our own styles and small scripts, nothing from outside."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from siftline.web import feed, manual, pages

STATIC = Path(__file__).parent / "static"


class _Static(StaticFiles):
    """Asked for again each time (a 304 by ETag), so that an upgrade never runs beside yesterday's scripts."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        answer.headers["Cache-Control"] = "no-cache"
        return answer


def install(app: FastAPI) -> None:
    """Add the pages, what their scripts read, and their files."""
    app.include_router(pages.router)
    app.include_router(feed.router)
    app.include_router(manual.router)
    app.mount("/static", _Static(directory=STATIC))
