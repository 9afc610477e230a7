"""Where bytes live: four verbs, the same for every place. A missing blob is always FileNotFoundError."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


@dataclass(frozen=True, slots=True)
class Listed:
    """One blob as a listing tells of it. `put_at` is when its bytes came, aware."""

    key: str
    bytes: int
    put_at: datetime


class Blobs(Protocol):
    """Keys are `/`-separated parts of letters, digits, `-`, `_` and `.`; ValueError for any other."""

    def put(self, key: str, source: Path) -> None:
        """Take the file `source` in, whole or not at all, replacing what was there; `source` is gone then."""

    def open(self, key: str) -> BinaryIO:
        """The blob, for reading and seeking."""

    def listed(self, prefix: str) -> Iterator[Listed]:
        """The blobs below a folder-like prefix (which ends in `/`), in the order of their keys."""

    def delete(self, key: str, *, unless_put_after: datetime | None = None) -> bool:
        """Remove a blob, unless it was put after that moment; False when it stays or is gone already."""


def checked(key: str) -> str:
    """Raises ValueError for what is no key, above all for what could lead elsewhere."""
    if not KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key!r}")
    return key


DATASETS_PREFIX = "datasets/"
PROBE_PREFIX = "probe/"


def image_key(dataset_id: UUID, sha256: str) -> str:
    return f"{DATASETS_PREFIX}{dataset_id}/{sha256}"


def thumbnail_key(dataset_id: UUID, sha256: str) -> str:
    return f"{DATASETS_PREFIX}{dataset_id}/thumbnails/{sha256}.webp"


def content_of(key: str) -> tuple[UUID, str] | None:
    """Dataset and SHA-256 of the image that a blob is, or is a thumbnail of; None for what is not ours."""
    parts = key.split("/")
    sha256 = parts[-1].removesuffix(".webp")
    is_ours = len(parts) == 3 or (len(parts) == 4 and parts[2] == "thumbnails")
    try:
        return (UUID(parts[1]), sha256) if is_ours and len(sha256) == 64 else None
    except ValueError:
        return None


def dataset_prefix(dataset_id: UUID) -> str:
    return f"{DATASETS_PREFIX}{dataset_id}/"


SCORING_PREFIX = "scoring/"


def scoring_key(job_id: UUID, number: int) -> str:
    return f"{SCORING_PREFIX}{job_id}/{number}"


def scoring_prefix(job_id: UUID) -> str:
    return f"{SCORING_PREFIX}{job_id}/"
