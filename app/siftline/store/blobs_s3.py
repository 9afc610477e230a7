"""Blobs as objects of one bucket of an S3-compatible store. Needs the extra `s3` (boto3).

Keys are checked before they are sent: nothing that a user names becomes an address (see `store.s3`).
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from siftline.domain.errors import Unavailable
from siftline.settings import Settings
from siftline.store import s3
from siftline.store.blobs import Listed, checked

IN_MEMORY_BYTES = 8 * 2**20
MISSING = {"NoSuchKey", "404"}


class S3Blobs:
    """Thread-safe. Every verb raises Unavailable when the store does not answer or refuses us."""

    def __init__(self, settings: Settings, patience: s3.Patience = s3.PATIENT) -> None:
        if settings.s3_bucket is None:
            raise ValueError("SIFTLINE_S3_BUCKET is not set")
        self._bucket = settings.s3_bucket
        self._prefix = settings.s3_prefix
        self._client: Any = s3.connect(settings, patience)
        weakref.finalize(self, self._client.close)  # its pool would leave connections open

    def put(self, key: str, source: Path) -> None:
        name = self._name(key)
        with _told_as_ours():
            self._client.upload_file(str(source), self._bucket, name)
        source.unlink()

    def open(self, key: str) -> BinaryIO:
        """A copy: what was opened stays what it was, and can be sought in."""
        name = self._name(key)
        copy = SpooledTemporaryFile(IN_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it
        try:
            with _told_as_ours():
                self._client.download_fileobj(self._bucket, name, copy)
        except BaseException:
            copy.close()
            raise
        copy.seek(0)
        return cast(BinaryIO, copy)

    def listed(self, prefix: str) -> Iterator[Listed]:
        below = f"{self._name(prefix.removesuffix('/'))}/"
        with _told_as_ours():
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=below
            ):
                for found in page.get("Contents", ()):
                    key = found["Key"].removeprefix(self._prefix)
                    yield Listed(key, found["Size"], found["LastModified"])

    def delete(self, key: str, *, unless_put_after: datetime | None = None) -> bool:
        """Between the look at the time and the delete there are some milliseconds: S3 has no such condition
        (its ETag is of the content, which is the same when the same image comes again)."""
        name = self._name(key)
        with _told_as_ours():
            if unless_put_after is not None:
                try:
                    found = self._client.head_object(Bucket=self._bucket, Key=name)
                except ClientError as error:
                    if s3.code_of(error) in MISSING:
                        return False
                    raise
                if found["LastModified"] > unless_put_after:
                    return False
            self._client.delete_object(Bucket=self._bucket, Key=name)
        return True

    def _name(self, key: str) -> str:
        return self._prefix + checked(key)


@contextmanager
def _told_as_ours() -> Iterator[None]:
    """Raises FileNotFoundError for a missing object, Unavailable for everything else."""
    try:
        yield
    except (ClientError, BotoCoreError, Boto3Error) as error:
        if isinstance(error, ClientError) and s3.code_of(error) in MISSING:
            raise FileNotFoundError("there is no such blob") from error
        raise Unavailable("The blob store does not answer right now.", retry_after_s=5) from error
