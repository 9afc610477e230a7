"""Uploads in flight: one folder per process, emptied when the process is gone."""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from uuid import uuid4

HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """One file as it was sent. `head` is its first 512 bytes, enough to tell what it is."""

    name: str
    path: Path
    size: int
    sha256: str
    head: bytes


class SpoolWriter:
    """Writes one file and hashes it on the way."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.size = 0
        self.head = b""
        self.discarded = False
        self._hash = hashlib.sha256()
        self._file = path.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += bytes(data[: HEAD_BYTES - len(self.head)])
        self.size += len(data)
        self._hash.update(data)
        if not self.discarded:
            self._file.write(data)

    def discard(self) -> None:
        """The file is not wanted, only its hash."""
        self.discarded = True
        self._file.close()
        self.path.unlink()

    def close(self) -> SpooledFile:
        self._file.close()
        return SpooledFile(self.name, self.path, self.size, self._hash.hexdigest(), self.head)


class SpoolFolder:
    """The files of one request. Several threads may write, each a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._numbers = count(1)

    def writer(self, name: str) -> SpoolWriter:
        """`name` is what the sender calls the file; where it is stored has nothing to do with it."""
        return SpoolWriter(name, self.path / str(next(self._numbers)))


class Spool:
    """This process's part of the spool. The lock on its file, gone with the process, says it is in use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mine: IO[bytes] | None = None
        self._folder = root

    def open(self) -> None:
        """Clear what dead processes left behind and take a folder of our own."""
        self.root.mkdir(parents=True, exist_ok=True)
        with _guarded(self.root):
            _cleared(self.root)
            lock = self.root / f"{uuid4().hex}.lock"
            self._mine = lock.open("wb")
            fcntl.flock(self._mine, fcntl.LOCK_EX)
            self._folder = lock.with_suffix("")
            self._folder.mkdir()

    def close(self) -> None:
        if self._mine is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            Path(self._mine.name).unlink(missing_ok=True)
            self._mine.close()
            self._mine = None

    @contextmanager
    def folder(self) -> Iterator[SpoolFolder]:
        """An empty folder that goes away with all its files at the end."""
        path = self._folder / uuid4().hex
        path.mkdir()
        try:
            yield SpoolFolder(path)
        finally:
            shutil.rmtree(path, ignore_errors=True)


def clear_abandoned(root: Path, *, dry_run: bool = False) -> list[int]:
    """Remove what dead processes left behind; the bytes of each one's folder."""
    if not root.is_dir():
        return []
    with _guarded(root):
        return _cleared(root, dry_run=dry_run)


@contextmanager
def _guarded(root: Path) -> Iterator[None]:
    # One at a time: a folder just made, but not locked yet, must not look abandoned.
    with (root / "guard").open("wb") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield


def _cleared(root: Path, *, dry_run: bool = False) -> list[int]:
    sizes = []
    for lock in root.glob("*.lock"):
        try:
            held = lock.open("rb")
        except FileNotFoundError:  # its process has ended properly just now
            continue
        with held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            folder = lock.with_suffix("")
            sizes.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
            if not dry_run:
                shutil.rmtree(folder, ignore_errors=True)
                lock.unlink(missing_ok=True)
    return sizes
