"""Where bytes live: four verbs, the same for every place. A missing blob is always FileNotFoundError."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID


class Blobs(Protocol):
    """Keys are `/`-separated parts of letters, digits, `-`, `_` and `.`; ValueError for any other."""

    def put(self, key: str, source: Path) -> None:
        """Take the file `source` in, whole or not at all, replacing what was there; `source` is gone then."""

    def open(self, key: str) -> BinaryIO:
        """The blob, for reading and seeking."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a folder-like prefix (which ends in `/`), in order."""

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when it is gone already."""


def image_key(dataset_id: UUID, sha256: str) -> str:
    return f"datasets/{dataset_id}/{sha256}"


def thumbnail_key(dataset_id: UUID, sha256: str) -> str:
    return f"datasets/{dataset_id}/thumbnails/{sha256}.webp"


def dataset_prefix(dataset_id: UUID) -> str:
    return f"datasets/{dataset_id}/"


SCORING_PREFIX = "scoring/"


def scoring_key(job_id: UUID, number: int) -> str:
    return f"{SCORING_PREFIX}{job_id}/{number}"


def scoring_prefix(job_id: UUID) -> str:
    return f"{SCORING_PREFIX}{job_id}/"
