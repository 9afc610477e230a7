"""Blobs as files below one folder."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class LocalBlobs:
    """`root` must be on the file system the sources are on: taking a file in is a rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, source: Path) -> None:
        target = self._path(key)
        # A row must never outlive its bytes: they are on the disk before the database hears of them.
        with source.open("rb") as file:
            os.fsync(file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)

    def open(self, key: str) -> BinaryIO:
        return self._path(key).open("rb")

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self._path(prefix.removesuffix("/"))
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.root).as_posix()

    def delete(self, key: str) -> None:
        path = self._path(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self.root or not _removed_if_empty(folder):
                break

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key):
            raise ValueError(f"not a blob key: {key!r}")
        return self.root / key


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # not empty, or gone already
        return False
    return True
