"""Blobs as files below one folder."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from siftline.store.blobs import Listed, checked
from siftline.store.folders import make_folder

ASIDE = ".aside"
"""Not a key: what lies there is in the hands of a careful delete, or was when that one died."""
NO_SLASH = ","  # in no key
WHOSE = 2 * NO_SLASH
"""Behind it, the name that one delete alone uses: another's of the same key may be at a later blob."""


class LocalBlobs:
    """`root` must be on the file system the sources are on: taking a file in is a rename."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, key: str, source: Path) -> None:
        """As `Blobs.put`. Afterwards a power cut takes neither the bytes nor their name, on a file system
        that keeps the order of its changes (ext4, XFS, btrfs).
        """
        target = self._path(key)
        # A row must never outlive its bytes: they are on the disk before the database hears of them.
        with source.open("rb") as file:
            os.utime(file.fileno())  # a rename keeps the time, and an upload may take a day
            os.fsync(file.fileno())
        while True:
            try:
                make_folder(target.parent)
                source.replace(target)
            except FileNotFoundError:
                # Whoever deletes the last blob beside it takes the folder, too, and may have just done so.
                if not source.exists():
                    raise
            else:
                _keep_names(target.parent)
                return

    def open(self, key: str) -> BinaryIO:
        return self._path(key).open("rb")

    def listed(self, prefix: str) -> Iterator[Listed]:
        for blob in list(self._below(self.root / ASIDE)):
            self._put_back(self.root / blob.key)
        yield from self._below(self._path(prefix.removesuffix("/")))

    def delete(self, key: str, *, unless_put_after: datetime | None = None) -> bool:
        path = self._path(key)
        if unless_put_after is None:
            if not _unlinked(path):
                return False
        elif not self._unlinked_if_old(path, unless_put_after):
            return False
        for folder in path.parents:
            if folder == self.root or not _removed_if_empty(folder):
                break
        return True

    def _unlinked_if_old(self, path: Path, limit: datetime) -> bool:
        """Looks at the very file it deletes: a put between a look and an unlink would lose what was put."""
        key = path.relative_to(self.root).as_posix().replace("/", NO_SLASH)
        aside = self.root / ASIDE / f"{key}{WHOSE}{uuid4().hex}"
        make_folder(aside.parent)
        try:
            path.rename(aside)
            if _put_at(aside.stat()) <= limit:
                return _unlinked(aside)
        except FileNotFoundError:  # gone, or another process has just put it back
            return False
        self._put_back(aside)
        return False

    def _put_back(self, aside: Path) -> None:
        path = self.root / aside.name.partition(WHOSE)[0].replace(NO_SLASH, "/")
        while aside.exists():  # else it is back already
            make_folder(path.parent)
            # Not found: the folder went with the last blob beside it. Exists: put again meanwhile.
            with suppress(FileNotFoundError):
                with suppress(FileExistsError):
                    os.link(aside, path)
                _unlinked(aside)

    def _below(self, folder: Path) -> Iterator[Listed]:
        try:
            with os.scandir(folder) as found:
                entries = [(f"{entry.name}/" if entry.is_dir() else entry.name, entry) for entry in found]
        except (FileNotFoundError, NotADirectoryError):
            return
        # A folder with its slash, so that the order is that of the whole keys.
        for name, entry in sorted(entries, key=lambda pair: pair[0]):
            if name.endswith("/"):
                yield from self._below(folder / entry.name)
                continue
            with suppress(FileNotFoundError):  # deleted meanwhile
                stat = entry.stat()
                yield Listed(Path(entry.path).relative_to(self.root).as_posix(), stat.st_size, _put_at(stat))

    def _path(self, key: str) -> Path:
        return self.root / checked(key)


def _keep_names(folder: Path) -> None:
    """A rename is in memory only until its folder is written, too."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # what was put is deleted again, or in the hands of a careful delete
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems know no such thing
            raise
    finally:
        os.close(handle)


def _put_at(stat: os.stat_result) -> datetime:
    return datetime.fromtimestamp(stat.st_mtime, UTC)


def _unlinked(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # not empty, or gone already
        return False
    return True
