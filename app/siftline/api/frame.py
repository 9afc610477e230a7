"""Around every request: an id, a limit on its body, and an answer whatever goes wrong."""

import logging
import re
import time
from urllib.parse import quote
from uuid import uuid4

from anyio import fail_after
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siftline import logs
from siftline.api.errors import InternalError, problem
from siftline.domain.errors import BadRequest, SiftlineError, TooLarge
from siftline.metrics import Requests
from siftline.settings import Settings

log = logging.getLogger(__name__)

PROBES = {"/healthz", "/readyz", "/metrics"}
CLIENT_GONE = 499
"""What stands in the figures for a request whose sender did not wait; nginx's number for it."""
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
UPLOADS = re.compile(r"/datasets(/[^/]+/images)?|/detectors/[^/]+/score")
IMAGES = re.compile(r"/detectors/[^/]+/score")
MAX_JSON_BYTES = 1 << 20
# For answers that set none of their own (pages do: `web.html`): nothing in them may act, be framed, be read
# by another site, be kept by a proxy, or tell another site where it was opened from.
GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Frame:
    """Our outermost ASGI middleware: what passes it has an `X-Request-ID`, and errors are problems."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self.app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.monotonic(), 0

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with logs.about(request_id=request_id):
            try:
                await self._answer(scope, receive, send_noted, request_id)
            finally:
                self._note(scope, status or CLIENT_GONE, time.monotonic() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, route = scope["method"], scope.get("route")
        template = None if route is None else getattr(route, "path_format", None)
        self.requests.answered(method, template, status, seconds)
        level = logging.DEBUG if scope["path"] in PROBES else logging.INFO
        path = quote(scope["path"])  # no line of the log may be the sender's
        fields = {"method": method, "path": path, "status": status, "seconds": round(seconds, 4)}
        told = "%s %s: %d in %.0f ms"
        log.log(level, told, method, path, status, 1000 * seconds, extra={"fields": fields})

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        started = False

        async def send_framed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                for name, value in GUARDS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self.app(scope, receive, send_framed)
        except ClientDisconnect:
            log.info("request %s: the client went away", request_id)
        except SiftlineError as error:
            await problem(error, request_id)(scope, receive, send_framed)
        except Exception:
            log.exception("request %s: %s %s failed", request_id, scope["method"], scope["path"])
            if started:
                raise  # half an answer is out: only closing the connection tells that it is not whole
            unforeseen = InternalError("Something went wrong here; the log knows more under this request id.")
            await problem(unforeseen, request_id)(scope, receive, send_framed)


class BodyLimit:
    """Refuses bodies that are too large, by their announced length or as soon as they turn out to be, and
    those that come too slowly. Only waiting for the sender counts, not what we do with what has come.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._limit(scope, headers)
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            raise BadRequest("Content-Length is not a number.")
        if len(announced) > 19 or int(announced) > limit:
            raise TooLarge(f"The body of this request may have at most {limit} bytes.")
        seen, waited_s, is_whole = 0, 0.0, False

        async def receive_limited() -> Message:
            nonlocal seen, waited_s, is_whole
            if is_whole:  # what comes now is the end of the connection
                return await receive()
            began = time.monotonic()
            try:
                with fail_after(self._patience_s(seen, waited_s)):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, headers={"Connection": "close"}) from None
            waited_s += time.monotonic() - began
            seen += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if seen > limit:
                raise HTTPException(413)  # the one kind of error FastAPI lets through from here
            return message

        await self.app(scope, receive_limited, send)

    def _patience_s(self, seen: int, waited_s: float) -> float:
        silence_s = self.settings.body_silence_s
        return min(silence_s, max(0.0, silence_s + seen / self.settings.body_bytes_per_s - waited_s))

    def _limit(self, scope: Scope, headers: Headers) -> int:
        """Only uploads, which are never held in memory, may be large."""
        is_upload = headers.get("content-type", "").lower().startswith("multipart/form-data")
        if is_upload and UPLOADS.fullmatch(scope["path"]):
            return self.settings.max_request_bytes
        if IMAGES.fullmatch(scope["path"]):  # one image is the body
            return self.settings.max_file_bytes
        return MAX_JSON_BYTES
