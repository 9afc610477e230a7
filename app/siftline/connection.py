"""One HTTP connection to a Siftline server: retries with back-off, and problems as exceptions."""

import math
import random
import time
from collections.abc import Mapping
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from siftline.domain import errors
from siftline.domain.errors import SiftlineError, Unavailable
from siftline.multipart import MultipartBody
from siftline.schemas import Problem

M = TypeVar("M", bound=BaseModel)
Body = MultipartBody | BaseModel | None

# What `domain.errors` promises and nothing else: the API's own finer kinds come as the kind they belong to.
KNOWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SiftlineError)]
BY_CODE = {kind.code: kind for kind in KNOWN}
BY_STATUS = {kind.status: kind for kind in reversed(KNOWN)}  # the first of a status is its general kind

LONGEST_PAUSE_S = 20.0
TRY_AGAIN = frozenset({429, 503})


class Connection:
    """`attempts` counts the first one; `transport` is the seam through which tests reach an app."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        timeout_s: float,
        attempts: int,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = url
        self.timeout_s = timeout_s
        self._attempts = attempts
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx2.Client(base_url=url, headers=headers, transport=transport)

    def close(self) -> None:
        self._http.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        twice: bool = True,
    ) -> httpx2.Response:
        """One answered request; `timeout_s` bounds the silence before the answer.

        With `twice`, it is sent again even when the first one may have been carried out. Raises the
        `SiftlineError` that the server's problem names, Unavailable when there is no answer, and OSError
        when a file to send cannot be read.
        """
        timeout = httpx2.Timeout(self.timeout_s, read=timeout_s or self.timeout_s, connect=5.0)
        params = {name: value for name, value in (query or {}).items() if value is not None}
        content, head = _encoded(body, headers)
        for attempt in range(1, self._attempts + 1):
            last = attempt == self._attempts
            try:
                answer = self._http.request(
                    method, path, params=params, content=content, headers=head, timeout=timeout
                )
            except httpx2.TransportError as error:
                never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if last or not (twice or never_sent):
                    raise self._unreachable(error) from error
                time.sleep(_pause_s(attempt))
                continue
            if answer.is_success:
                return answer
            if last or answer.status_code not in TRY_AGAIN:
                raise error_of(answer)
            time.sleep(_pause_s(attempt, answer.headers.get("Retry-After")))
        raise AssertionError("the last attempt returns or raises")

    def _unreachable(self, error: httpx2.TransportError) -> Unavailable:
        if isinstance(error, httpx2.TimeoutException):
            return Unavailable(f"{self.url} did not answer in time. Is it overloaded, or the address wrong?")
        return Unavailable(f"No Siftline server answers at {self.url}. Start one with `siftline serve`.")


def _encoded(
    body: Body, headers: Mapping[str, str] | None
) -> tuple[bytes | MultipartBody | None, dict[str, str]]:
    if isinstance(body, MultipartBody):
        return body, {**(headers or {}), **body.headers}
    if body is None:
        return None, dict(headers or {})
    return body.model_dump_json(exclude_unset=True).encode(), {
        **(headers or {}),
        "Content-Type": "application/json",
    }


def parsed(model: type[M], answer: httpx2.Response) -> M:
    """The answer as `model`. Raises Unavailable when something else than Siftline answered."""
    try:
        return model.model_validate_json(answer.content)
    except ValidationError as error:
        raise Unavailable(
            f"{answer.url} answered, but not as Siftline does: is it another service or another version?"
        ) from error


def error_of(answer: httpx2.Response) -> SiftlineError:
    """The exception that a 4xx or 5xx answer stands for: by its code, else by its status."""
    try:
        problem = Problem.model_validate_json(answer.content)
    except ValidationError:
        detail = f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"
        problem = Problem(title=answer.reason_phrase, status=answer.status_code, detail=detail, code="")
    kind = BY_CODE.get(problem.code) or BY_STATUS.get(answer.status_code, SiftlineError)
    error = kind(_with_fields(problem), problem=problem)
    if answer.status_code == 429:
        return Unavailable(error.detail, problem=problem)
    return error


def _with_fields(problem: Problem) -> str:
    """The detail, and which fields are wrong when the problem lists them."""
    fields = [f"{'.'.join(map(str, e.get('loc', [])))}: {e.get('msg', '')}" for e in problem.errors]
    return "; ".join([problem.detail, *fields])


def _pause_s(attempt: int, retry_after: str | None = None) -> float:
    """Seconds before the next attempt: what the server asked for, else doubling from half a second."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), LONGEST_PAUSE_S)
    return min(math.ldexp(0.25, attempt), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
