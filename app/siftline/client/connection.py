"""One HTTP connection to a Siftline server: retries with back-off, and problems as exceptions."""

import math
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256 as new_sha256
from itertools import count
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx2
from pydantic import BaseModel, ValidationError

from siftline.client.multipart import MultipartBody, OnProgress
from siftline.client.wholefile import whole_file
from siftline.domain import errors
from siftline.domain.errors import Conflict, SiftlineError, Unavailable
from siftline.schemas import Page, Problem

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")
Query = Mapping[str, Any]
Body = MultipartBody | BaseModel | None

# What `domain.errors` promises and nothing else: the API's own finer kinds come as the kind they belong to.
KNOWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SiftlineError)]
BY_CODE = {kind.code: kind for kind in KNOWN}
BY_STATUS = {kind.status: kind for kind in reversed(KNOWN)}  # the first of a status is its general kind

PAGE = 500
CONNECT_TIMEOUT_S = 5.0
LONGEST_PAUSE_S = 20.0
SOME_TIME_S = 1.0
RESTART_S = 60.0
"""How long a server out of reach is asked again by who has given more time than that: it may be starting."""
TRY_AGAIN = frozenset({429, 503})


class Connection:
    """`attempts` counts the first one; `transport` is the seam through which tests reach an app.

    A call with a deadline is not counted: a busy server is asked until then, one out of reach for a minute.

    All calls raise the `SiftlineError` that the server's problem names, Unavailable when there is no answer,
    and TimeoutError when `deadline` (of `time.monotonic`) has passed.
    """

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

    def get(self, path: str, model: type[M], query: Query | None = None, timeout_s: float | None = None) -> M:
        return parsed(model, self.send("GET", path, query=query, timeout_s=timeout_s))

    def create(
        self,
        path: str,
        body: Body,
        model: type[M],
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        timeout_s: float | None = None,
    ) -> M:
        """A POST that is carried out once, however often it is sent: under `key`, or one of its own."""
        once = {**(headers or {}), "Idempotency-Key": key or str(uuid4())}
        return parsed(
            model, self.send("POST", path, query=query, body=body, headers=once, timeout_s=timeout_s)
        )

    def pages(self, path: str, model: type[Page[M]], query: Query | None = None) -> Iterator[M]:
        cursor: str | None = None
        while True:
            page = self.get(path, model, {**(query or {}), "limit": PAGE, "cursor": cursor})
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        deadline: float | None = None,
        twice: bool = True,
    ) -> httpx2.Response:
        """One answered request; `timeout_s` bounds the silence before the answer.

        With `twice`, it is sent again even when the first one may have been carried out. Raises OSError, too,
        when a file to send cannot be read.
        """
        content, head = _encoded(body, headers)

        def ask(timeout: httpx2.Timeout) -> httpx2.Response:
            limited = _until(deadline, content) if isinstance(content, MultipartBody) else content
            answer = self._http.request(
                method, path, params=_given(query), content=limited, headers=head, timeout=timeout
            )
            return _succeeded(answer)

        return self._retried(ask, timeout_s=timeout_s, deadline=deadline, twice=twice)

    def download(
        self,
        path: str,
        target: Path,
        *,
        query: Query | None = None,
        sha256: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Stream an answer into a file that is there when it is whole, and otherwise not.

        Raises OSError, too: no room for it, no right to write it.
        """

        def ask(timeout: httpx2.Timeout) -> None:
            # As it is kept there: lengths and hashes speak of those bytes.
            plain = {"Accept-Encoding": "identity"}
            with self._http.stream(
                "GET", path, params=_given(query), headers=plain, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    answer.read()
                total = _succeeded(answer).headers.get("Content-Length")
                with whole_file(target) as file:
                    received, digest = 0, new_sha256()
                    for chunk in answer.iter_bytes():
                        file.write(chunk)
                        digest.update(chunk)
                        received += len(chunk)
                        if on_progress:
                            on_progress(received, None if total is None else int(total))
                    if sha256 is not None and digest.hexdigest() != sha256:
                        raise Unavailable(f"{target.name} arrived damaged: its SHA-256 is not {sha256}")

        self._retried(ask)

    def _retried(
        self,
        ask: Callable[[httpx2.Timeout], T],
        *,
        timeout_s: float | None = None,
        deadline: float | None = None,
        twice: bool = True,
    ) -> T:
        started = time.monotonic()
        for attempt in count(1):
            last = attempt >= self._attempts
            try:
                return ask(self._timeout(timeout_s, deadline))
            except httpx2.TransportError as error:
                _require_time(deadline)
                restarting = deadline is not None and time.monotonic() < started + RESTART_S
                never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if (last and not restarting) or not (twice or never_sent):
                    raise self._unreachable(error) from error
                pause_s = _pause_s(attempt)
            except _Busy as busy:
                if last and deadline is None:  # else until the time is up
                    raise busy.error from None
                pause_s = max(_pause_s(attempt, busy.retry_after), SOME_TIME_S if last else 0.0)
            time.sleep(pause_s if deadline is None else max(0.0, min(pause_s, deadline - time.monotonic())))
        raise AssertionError("an attempt returns or raises")

    def _timeout(self, timeout_s: float | None, deadline: float | None) -> httpx2.Timeout:
        silence_s, usual_s, connect_s = timeout_s or self.timeout_s, self.timeout_s, CONNECT_TIMEOUT_S
        if deadline is not None:
            _require_time(deadline)
            left_s = max(deadline - time.monotonic(), 0.001)
            silence_s, usual_s, connect_s = (min(s, left_s) for s in (silence_s, usual_s, connect_s))
        return httpx2.Timeout(usual_s, read=silence_s, connect=connect_s)

    def _unreachable(self, error: httpx2.TransportError) -> Unavailable:
        if isinstance(error, httpx2.TimeoutException):
            return Unavailable(f"{self.url} did not answer in time. Is it overloaded, or the address wrong?")
        if isinstance(error, httpx2.ConnectError):
            return Unavailable(f"No Siftline server answers at {self.url}. Start one with `siftline serve`.")
        return Unavailable(f"{self.url} broke off the connection before it had answered.")


class _Busy(Exception):
    """The server asks to come back later."""

    def __init__(self, error: SiftlineError, retry_after: str | None) -> None:
        super().__init__(error.detail)
        self.error = error
        self.retry_after = retry_after


def _succeeded(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        return answer
    if answer.status_code in TRY_AGAIN:
        raise _Busy(error_of(answer), answer.headers.get("Retry-After"))
    raise error_of(answer)


def _require_time(deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("The server had not answered when the time was up.")


def _until(deadline: float | None, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as long as there is time: each may be sent in time and all of them too late."""
    for chunk in chunks:
        _require_time(deadline)
        yield chunk


def _given(query: Query | None) -> dict[str, Any]:
    return {name: value for name, value in (query or {}).items() if value is not None}


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
    if answer.status_code == 412:  # a conflict that the caller asked to be told of
        return Conflict(problem.detail, problem=problem)
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
    return min(math.ldexp(0.25, min(attempt, 30)), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
