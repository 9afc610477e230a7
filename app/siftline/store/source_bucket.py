"""One of the operator's buckets that images are read from, and never written to. Needs the extra `s3`."""

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
    ResponseStreamingError,
)

from siftline.domain.errors import Unavailable, Unprocessable
from siftline.settings import Settings
from siftline.store import s3

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
READS = 4
PAUSE_S = 0.5
CUT_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
MISSING = {"NoSuchKey", "404"}
NOT_HANDED_OUT = {"AccessDenied", "403", "InvalidObjectState"}  # the last: it lies in an archive tier

AGAIN = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class Replaced(Exception):
    """The object is not the one that was listed any more."""


@dataclass(frozen=True, slots=True)
class Object:
    """As a listing tells of it; `version` is its ETag."""

    key: str
    bytes: int
    version: str


class SourceBucket:
    """For the time of a `with`; thread-safe. Raises Unavailable when the store does not answer after some
    attempts, and Unprocessable when it answers that the bucket cannot be read."""

    def __init__(self, settings: Settings, name: str, patience: s3.Patience = s3.PATIENT) -> None:
        self._name = name
        self._client: Any = s3.connect(settings, patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def find(self, key: str) -> Object | None:
        """The object of exactly this key, if there is one that may be read."""
        with self._told_as_ours():
            try:
                found = self._client.head_object(Bucket=self._name, Key=key)
            except ClientError as error:
                # Who may not list a bucket is told 403 of what is not there.
                if s3.code_of(error) in MISSING | NOT_HANDED_OUT:
                    return None
                raise
        return Object(key, found["ContentLength"], found["ETag"])

    def listed(self, folder: str) -> Iterator[Object]:
        """What is below `folder`, which ends in `/` (or is empty: all), by key, page by page."""
        with self._told_as_ours():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=folder)
            for page in pages:
                for found in page.get("Contents", ()):
                    yield Object(found["Key"], found["Size"], found["ETag"])

    def chunks(self, found: Object) -> Iterator[bytes]:
        """Its bytes; after a cut it goes on where it was.

        Raises FileNotFoundError, PermissionError and Replaced, too.
        """
        done, reads = 0, 0
        while True:
            try:
                for chunk in self._from(found, done):
                    done += len(chunk)
                    yield chunk
            except CUT_OFF as error:
                reads += 1
                log.warning("reading from the bucket %s was cut off (%s)", self._name, type(error).__name__)
                if reads == READS:
                    raise _away() from error
                time.sleep(PAUSE_S * reads)
            else:
                return

    def _from(self, found: Object, start: int) -> Iterator[bytes]:
        if start and start == found.bytes:
            return  # cut off after the last byte; a range that begins there would be an error
        span = {"Range": f"bytes={start}-"} if start else {}
        with self._told_as_ours():
            try:
                answer = self._client.get_object(
                    Bucket=self._name, Key=found.key, IfMatch=found.version, **span
                )
            except ClientError as error:
                if (told := _of_one_object(error)) is None:
                    raise
                raise told from error
        with closing(answer["Body"]) as body:
            while chunk := body.read(CHUNK_BYTES):
                yield chunk

    @contextmanager
    def _told_as_ours(self) -> Iterator[None]:
        try:
            yield
        except NoCredentialsError as error:
            raise Unprocessable("The server has no credentials for buckets: tell its operator.") from error
        except ClientError as error:
            status = s3.status_of(error)
            log.warning("the bucket %s: %s (%d)", self._name, s3.code_of(error), status)
            if status in AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise _away() from error
            raise Unprocessable(
                f"The store does not let this server read the bucket {self._name}: is it there, at the "
                "configured endpoint and region, and open to the server's credentials?"
            ) from error
        except BotoCoreError as error:
            log.warning("the bucket %s: %s", self._name, type(error).__name__)
            raise _away() from error


def _of_one_object(error: ClientError) -> Exception | None:
    """What is wrong with this object alone; None when it is the bucket or the store."""
    code = s3.code_of(error)
    if code in MISSING:
        return FileNotFoundError("there is no such object")
    if code in NOT_HANDED_OUT:
        return PermissionError("the store does not hand the object out")
    return Replaced() if s3.status_of(error) == HTTPStatus.PRECONDITION_FAILED else None


def _away() -> Unavailable:
    detail = "The store of the source does not answer right now; nothing was taken in."
    return Unavailable(detail, retry_after_s=30)
