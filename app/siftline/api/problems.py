"""The errors of each route, for the OpenAPI document: by status, with the types its problem may have.

A route names its own errors (`responses=raises(PurificationNotReady)`); those that follow from what it takes,
or that every route can answer, are found here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from siftline.access.gate import is_open
from siftline.api.crowd import Busy
from siftline.api.errors import MEDIA_TYPE, BodyTooSlow, InternalError, InvalidFields, StorageFull, urn
from siftline.api.idempotency import IdempotencyKeyReused
from siftline.domain.errors import (
    BadRequest,
    DetectorNotReady,
    Forbidden,
    NotFound,
    PurificationNotReady,
    SiftlineError,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from siftline.services.score_jobs import ScoresNotReady
from siftline.store.cursor import BadCursor

Errors = Iterable[type[SiftlineError]]
OF_ALL: Errors = (Forbidden, InternalError)
OF_ALL_WITH_A_KEY: Errors = (Unauthorized, TooManyRequests, Unavailable, Busy, StorageFull)
OF_A_BODY: Errors = (BadRequest, BodyTooSlow, TooLarge, InvalidFields)
WORTH_WAITING = (TooManyRequests, Unavailable, PurificationNotReady, DetectorNotReady, ScoresNotReady)
RETRY_AFTER = {"description": "Seconds, where waiting may help.", "schema": {"type": "integer", "minimum": 1}}
CHALLENGE = {"description": "What to send: a key.", "schema": {"const": "Bearer"}}


def raises(*kinds: type[SiftlineError]) -> dict[int | str, dict[str, Any]]:
    """For `responses` of a route: the errors that it alone can answer."""
    responses: dict[int | str, dict[str, Any]] = {}
    for kind in kinds:
        _add(responses, kind)
    return responses


def complete(path: str, operation: dict[str, Any]) -> None:
    """Add what a route can answer besides its own errors to its part of the document."""
    responses: dict[str, dict[str, Any]] = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # what FastAPI would answer by itself
    for kind in _common(path, operation):
        _add(responses, kind)
    operation["responses"] = dict(sorted(responses.items()))


def _common(path: str, operation: Mapping[str, Any]) -> Iterator[type[SiftlineError]]:
    yield from OF_ALL
    if not is_open(path):
        yield from OF_ALL_WITH_A_KEY
    if "requestBody" in operation:
        yield from OF_A_BODY
    for parameter in operation.get("parameters", ()):
        yield InvalidFields
        if parameter["in"] == "path":
            yield NotFound
        elif parameter["name"] == "cursor":
            yield BadCursor
        elif parameter["name"] == "Idempotency-Key":
            yield IdempotencyKeyReused


def _add(responses: dict[Any, dict[str, Any]], kind: type[SiftlineError]) -> None:
    schema: dict[str, Any] = {"$ref": "#/components/schemas/Problem", "properties": {"type": {"enum": []}}}
    new = {"description": "", "content": {MEDIA_TYPE: {"schema": schema}}}
    answer = responses.setdefault(str(kind.status), new)
    types = answer["content"][MEDIA_TYPE]["schema"]["properties"]["type"]["enum"]
    if urn(kind) in types:
        return
    types.append(urn(kind))
    answer["description"] += f"{', or ' if answer['description'] else ''}`{kind.code}`: {kind.title}"
    if issubclass(kind, WORTH_WAITING):
        answer.setdefault("headers", {})["Retry-After"] = RETRY_AFTER
    if kind is Unauthorized:
        answer.setdefault("headers", {})["WWW-Authenticate"] = CHALLENGE
