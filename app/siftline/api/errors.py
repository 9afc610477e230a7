"""Every error is a problem (RFC 9457) with a request id, and none tells what an exception said."""

import logging
from collections.abc import Mapping, Sequence
from errno import EDQUOT, ENOSPC
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from siftline.domain.errors import BadRequest, NotFound, SiftlineError, TooLarge, Unavailable
from siftline.schemas import Problem

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class InvalidFields(SiftlineError):
    status = 422
    code = "validation-error"
    title = "The request does not match the schema"


class MethodNotAllowed(SiftlineError):
    status = 405
    code = "method-not-allowed"
    title = "The path does not take this method"


class BodyTooSlow(SiftlineError):
    status = 408
    code = "request-timeout"
    title = "The body came too slowly, or not at all"


class StorageFull(Unavailable):
    code = "storage-full"
    title = "The storage is full"


class InternalError(SiftlineError):
    """What everything unforeseen looks like from outside."""


KNOWN_STATUS: dict[int, type[SiftlineError]] = {
    400: BadRequest,
    404: NotFound,
    408: BodyTooSlow,
    413: TooLarge,
}


def install(app: FastAPI) -> None:
    """Handlers for everything that is raised below the routes; `frame.Frame` handles what is raised above.

    They are coroutines, or each error would wait for a thread behind all the requests that do.
    """
    app.add_exception_handler(SiftlineError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _storage_full)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _database_away)


def problem(
    error: SiftlineError, request_id: str | None, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer to an error. `retry_after_s`, `job` and `errors` of its extras are told, others are not."""
    told = {name: error.extra[name] for name in ("job", "errors") if name in error.extra}
    body = Problem(
        type=urn(type(error)),
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        request_id=request_id,
        **told,
    )
    extra = dict(headers or {})
    if (retry_after_s := error.extra.get("retry_after_s")) is not None:
        extra["Retry-After"] = str(retry_after_s)
    if error.status == 401:
        extra["WWW-Authenticate"] = "Bearer"
    content = body.model_dump(mode="json", exclude_unset=True)
    return JSONResponse(content, error.status, extra, media_type=MEDIA_TYPE)


def urn(kind: type[SiftlineError]) -> str:
    """What the `type` of its problem is."""
    return f"urn:siftline:problem:{kind.code}"


def request_id_of(scope: Scope) -> str | None:
    request_id: str | None = scope.get("state", {}).get("request_id")
    return request_id


def listed(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Validation errors without what the caller sent and without the inside of ours."""
    return [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in errors]


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, SiftlineError)  # noqa: S101 - Starlette looked at the type
    return problem(error, request_id_of(request.scope))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - Starlette looked at the type
    errors = listed(error.errors())
    if any(e["type"] == "json_invalid" for e in errors):
        return await _told(request, BadRequest("The body is not valid JSON.", errors=errors))
    return await _told(request, InvalidFields("See `errors` for the fields that do not fit.", errors=errors))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette looked at the type
    request_id = request_id_of(request.scope)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods_of(request))
        return problem(MethodNotAllowed(f"This path takes {allowed}."), request_id, {"Allow": allowed})
    kind = KNOWN_STATUS.get(error.status_code)
    if kind is None:
        phrase = HTTPStatus(error.status_code).phrase
        named = {"status": error.status_code, "code": phrase.lower().replace(" ", "-"), "title": phrase}
        kind = type("Http", (SiftlineError,), named)
    detail = "There is nothing at this path." if kind is NotFound else kind.title + "."
    return problem(kind(detail), request_id, error.headers)


def _methods_of(request: Request) -> list[str]:
    """Starlette names only the methods of the first route that has the path."""
    routes = request.app.router.routes
    scopes = [(method, dict(request.scope, method=method)) for method in METHODS]
    return [m for m, scope in scopes if any(r.matches(scope)[0] is Match.FULL for r in routes)]


async def _storage_full(request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or error.errno not in (ENOSPC, EDQUOT):
        raise error
    log.error("request %s: the storage is full", request_id_of(request.scope))
    return await _told(request, StorageFull("The server has no room for this right now.", retry_after_s=300))


async def _database_away(request: Request, error: Exception) -> Response:
    log.warning("request %s: the database is away: %s", request_id_of(request.scope), type(error).__name__)
    return await _told(request, Unavailable("The database does not answer right now.", retry_after_s=5))
