"""What this machine keeps of jobs' work: features of images, and pieces under a content key.

All of it may go at any time: whoever misses it does the work again. So what belongs to deleted datasets goes
at once, and the rest keeps to its size. Every machine with workers looks after its own; several may look
after one folder.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store import datasets, features, images, work
from siftline.store.session import reading

AT_ONCE = 1000
WORK_KEPT_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Freed:
    """`held_back`: found, but left because there is more of it than there should be."""

    count: int = 0
    bytes: int = 0
    held_back: bool = False


def collect(
    sessions: sessionmaker[Session], settings: Settings, *, dry_run: bool = False
) -> dict[str, Freed]:
    """One pass; what was freed, or would be, by kind."""
    return {
        "features": _features(sessions, settings, dry_run=dry_run),
        "work": _work(sessions, settings, dry_run=dry_run),
    }


def total(sizes: list[int]) -> Freed:
    return Freed(len(sizes), sum(sizes))


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file or folder that may go; `used_at` in seconds since 1970."""

    path: Path
    bytes: int
    used_at: float

    def remove(self) -> None:
        if self.path.is_dir():
            work.remove(self.path)
        else:
            with suppress(IsADirectoryError):  # a folder that went is made anew in this moment: it is needed
                self.path.unlink(missing_ok=True)


def _features(sessions: sessionmaker[Session], settings: Settings, *, dry_run: bool) -> Freed:
    forgotten: list[_Kept] = []
    rest: list[_Kept] = []
    listing = _files(settings.features_dir)
    while some := list(islice(listing, AT_ONCE)):
        contents = {sha256 for item in some if (sha256 := features.content_of(item.path)) is not None}
        # Asked after the listing: an image's row comes before its features.
        with reading(sessions) as session:
            gone = contents - images.known_anywhere(session, contents)
        for item in some:
            (forgotten if features.content_of(item.path) in gone else rest).append(item)
    return _removed(forgotten + _too_much(rest, settings.features_max_bytes, lambda _: True), dry_run=dry_run)


def _work(sessions: sessionmaker[Session], settings: Settings, *, dry_run: bool) -> Freed:
    """Checkpoints. What was written within the grace period may be a running job's."""
    folders, now_s = list(_folders(settings.work_dir)), time.time()
    owners = {folder.path: work.owners(folder.path) for folder in folders}
    with reading(sessions) as session:
        known = datasets.known(session, set().union(*owners.values()))

    def is_done(folder: _Kept) -> bool:
        whose = owners[folder.path]
        if folder.path.name.startswith(work.GONE) or (whose and not whose & known):
            return True
        return now_s - folder.used_at > max(WORK_KEPT_S, settings.gc_grace_s)

    done = [folder for folder in folders if is_done(folder)]
    idle = _too_much(
        [folder for folder in folders if folder not in done],
        settings.work_max_bytes,
        lambda folder: now_s - folder.used_at > settings.gc_grace_s,
    )
    return _removed(done + idle, dry_run=dry_run)


def _too_much(found: list[_Kept], most_bytes: int, may_go: Callable[[_Kept], bool]) -> list[_Kept]:
    """Those unused longest, until the rest has at most so many bytes."""
    kept = sorted(found, key=lambda item: item.used_at)
    over, going = sum(item.bytes for item in kept) - most_bytes, []
    for item in kept:
        if over <= 0:
            break
        if may_go(item):
            going.append(item)
            over -= item.bytes
    return going


def _removed(going: list[_Kept], *, dry_run: bool) -> Freed:
    if not dry_run:
        for item in going:
            item.remove()
    return total([item.bytes for item in going])


def _files(folder: Path) -> Iterator[_Kept]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            # Reading counts as use where the file system notes it (Linux: once a day).
            yield _Kept(path, stat.st_size, max(stat.st_mtime, stat.st_atime))


def _folders(root: Path) -> Iterator[_Kept]:
    if not root.is_dir():
        return
    for folder in root.iterdir():
        inside = list(_files(folder))
        with suppress(FileNotFoundError):  # a job that ended just now has cleared its own
            # A job that opens a folder touches it: not every file system notes that files were read.
            used_at = max([folder.stat().st_mtime, *(item.used_at for item in inside)])
            yield _Kept(folder, sum(item.bytes for item in inside), used_at)
