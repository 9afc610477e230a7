"""Thousands of files as an upload that goes on where it was killed.

Files travel in batches, each of which the server takes whole or not at all. What has arrived, the server
knows best: its receipts name every image by its SHA-256. All that this side remembers, in a small file, is
which dataset the upload made, and the key under which it made it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from uuid import UUID, uuid4, uuid5

from pydantic import BaseModel, ValidationError

from siftline.client.multipart import FilePart, MultipartBody, OnProgress
from siftline.client.wholefile import whole_file
from siftline.schemas import Receipt

BATCH_FILES = 500
BATCH_BYTES = 512 * 1024**2
THERE_ALREADY = "already-there: the dataset has an image with the same bytes, so it was not sent"


class Progress(BaseModel):
    key: UUID
    dataset_id: UUID | None = None


class Memo:
    """What an unfinished upload has to know of itself, kept in `path` if there is one."""

    def __init__(self, path: Path | None) -> None:
        """As it was kept; a new one where there is none that can be read."""
        self._path = path
        try:
            self._known = Progress.model_validate_json(b"" if path is None else path.read_bytes())
        except (FileNotFoundError, ValidationError):
            self._known = Progress(key=uuid4())

    @property
    def dataset_id(self) -> UUID | None:
        return self._known.dataset_id

    def keep(self, dataset_id: UUID | None) -> None:
        """Raises OSError."""
        self._known.dataset_id = dataset_id
        if self._path is not None:
            with whole_file(self._path) as file:
                file.write(self._known.model_dump_json().encode())

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def key_for(self, what: Iterable[object]) -> str:
        """The same key for the same thing of the same upload: a crash makes nothing happen twice."""
        return str(uuid5(self._known.key, repr(list(what))))


def stamps(files: Iterable[FilePart]) -> Iterator[object]:
    """What tells whether a file is still what it was, without reading it. Raises OSError."""
    for file in files:
        changed = file.content.stat().st_mtime_ns if isinstance(file.content, Path) else None
        yield file.name, file.size, changed


def apart(files: Sequence[FilePart], arrived: frozenset[str]) -> tuple[list[FilePart], list[Receipt]]:
    """Files to send, and receipts for those whose SHA-256 has arrived. Raises OSError."""
    left: list[FilePart] = []
    receipts: list[Receipt] = []
    for file in files:
        sha256 = _sha256_of(file) if arrived else ""
        if sha256 in arrived:
            there = Receipt(name=file.name, sha256=sha256, status="duplicate", reason=THERE_ALREADY)
            receipts.append(there)
        else:
            left.append(file)
    return left, receipts


def _sha256_of(file: FilePart) -> str:
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def bodies_of(
    fields: dict[str, str], batches: Iterable[list[FilePart]], on_progress: OnProgress | None
) -> list[MultipartBody]:
    """A body per batch, the first with the fields; `on_progress` counts the bytes of them all."""
    total = 0

    def from_byte(start: int) -> OnProgress:
        return lambda sent, _: None if on_progress is None else on_progress(start + sent, total)

    bodies: list[MultipartBody] = []
    for batch in batches:
        body = MultipartBody({} if bodies else fields, batch, from_byte(total))
        bodies.append(body)
        total += body.size
    return bodies
