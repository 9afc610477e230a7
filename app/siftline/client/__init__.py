"""The API from Python, typed.

    from siftline import Client

    with Client("http://127.0.0.1:8000") as client:
        created = client.upload("line 4", ["dump.zip"])
        client.wait(created.job)
        for item in client.purified(created.dataset.id).items[:10]:
            print(item.rank, item.name, item.p_anomalous)

Errors are those of `siftline.domain.errors`, plus `JobFailed`. A server out of reach is `Unavailable`.
"""

import os
from types import TracebackType
from typing import Self

import httpx2

from siftline.client.connection import Connection
from siftline.client.datasets import DatasetCalls
from siftline.client.detectors import DetectorCalls
from siftline.client.jobs import FINISHED, JobFailed, similar_of
from siftline.client.keys import KeyCalls
from siftline.client.reviews import ReviewCalls
from siftline.domain.errors import Unauthorized, Unprocessable
from siftline.schemas import Health

__all__ = ["DEFAULT_URL", "FINISHED", "Client", "JobFailed", "similar_of"]

DEFAULT_URL = "http://127.0.0.1:8000"
ATTEMPTS = 6


class Client(DatasetCalls, ReviewCalls, DetectorCalls, KeyCalls):
    """One server. `url` and `api_key` default to SIFTLINE_URL and SIFTLINE_API_KEY.

    Calls that may safely be made twice are retried with back-off on 429, 503 and dropped connections;
    creating calls carry an Idempotency-Key, so they are among them.

    Raises Unprocessable for a `url` where nothing can answer, Unauthorized for a key that none can be.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        attempts: int = ATTEMPTS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.url = _address(url or os.environ.get("SIFTLINE_URL") or DEFAULT_URL)
        key = _sendable(api_key or os.environ.get("SIFTLINE_API_KEY") or "")
        super().__init__(
            Connection(self.url, key, timeout_s=timeout_s, attempts=attempts, transport=transport)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def ready(self) -> Health:
        """What the server depends on. Raises Unavailable while any of it is away."""
        return self._connection.get("/readyz", Health)


def _address(url: str) -> str:
    try:
        parsed = httpx2.URL(url.strip())
        sound = parsed.scheme in {"http", "https"} and bool(parsed.host)
    except httpx2.InvalidURL:
        sound = False
    if not sound:
        raise Unprocessable(f"{url!r} is no address of a server. One is written like {DEFAULT_URL}.")
    return url.strip().rstrip("/")


def _sendable(key: str) -> str:
    """Without the line end that a key has when it was read from a file."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise Unauthorized("The API key holds characters that no key has. Was it copied whole and alone?")
    return key
