"""What nobody needs any more, found and removed: never what an upload or a job in hand may still need.

Uploads put bytes first and commit rows later, so a blob without a row is garbage only once it is older than
any request can be (`gc_grace_s`); its age is looked at again in the very moment it goes. Caches and
checkpoints may go at any time: whoever misses them does the work again.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline.settings import Settings
from siftline.store import idempotency, images, spool
from siftline.store.blobs import DATASETS_PREFIX, PROBE_PREFIX, Blobs, Listed
from siftline.store.session import now, reading, transaction

log = logging.getLogger(__name__)

AT_ONCE = 1000
WORK_KEPT_S = 7 * 24 * 3600.0
FEW = 100
"""So many blobs without rows are no reason to think that something is wrong with the database."""


@dataclass(frozen=True, slots=True)
class Freed:
    """`held_back`: found, but left because there is more of it than there should be."""

    count: int = 0
    bytes: int = 0
    held_back: bool = False


def collect(
    sessions: sessionmaker[Session],
    settings: Settings,
    blobs: Blobs,
    *,
    dry_run: bool = False,
    everything: bool = False,
) -> dict[str, Freed]:
    """One pass; what was freed, or would be, by kind. Raises Unavailable while the bucket is away.

    Blobs are left when most of them have no row: then this is rather the wrong database, or an old backup of
    it. `everything` removes them all the same.
    """
    return {
        "blobs": _blobs(sessions, settings, blobs, dry_run=dry_run, everything=everything),
        "spool": _total(spool.clear_abandoned(settings.spool_dir, dry_run=dry_run)),
        "answers": _answers(sessions, settings, dry_run=dry_run),
        "features": _shrunk(
            _files(settings.features_dir), settings.features_max_bytes, lambda _: True, dry_run=dry_run
        ),
        "work": _work(settings, dry_run=dry_run),
    }


def run_forever(
    sessions: sessionmaker[Session], settings: Settings, blobs: Blobs, stop: threading.Event
) -> None:
    """Collect every `gc_s` seconds until `stop` is set; never when that is 0."""
    if settings.gc_s == 0:
        return
    while not stop.wait(settings.gc_s):
        try:
            freed = collect(sessions, settings, blobs)
        except Exception:
            log.exception("garbage was not collected; the next turn tries again")
            continue
        for kind, what in freed.items():
            if what.held_back:
                log.error(
                    "%d of the %s have no row: is this the right database? `siftline gc`", what.count, kind
                )
            elif what.count:
                log.info("garbage: %d of the %s, %d bytes", what.count, kind, what.bytes)


def _total(sizes: list[int]) -> Freed:
    return Freed(len(sizes), sum(sizes))


def _blobs(
    sessions: sessionmaker[Session], settings: Settings, blobs: Blobs, *, dry_run: bool, everything: bool
) -> Freed:
    before = datetime.now(UTC) - timedelta(seconds=settings.gc_grace_s)
    orphans = [blob for blob in blobs.listed(PROBE_PREFIX) if blob.put_at <= before]
    seen = 0
    listing = blobs.listed(DATASETS_PREFIX)
    while some := list(islice(listing, AT_ONCE)):
        seen += len(some)
        old = [blob for blob in some if blob.put_at <= before]
        # Asked after the listing: the row of a blob that was listed may have come meanwhile.
        with reading(sessions) as session:
            orphans += _without_row(session, old)
    held_back = not everything and len(orphans) > max(FEW, seen / 2)
    if dry_run or held_back:
        return Freed(len(orphans), sum(blob.bytes for blob in orphans), held_back)
    return _total([blob.bytes for blob in orphans if blobs.delete(blob.key, unless_put_after=before)])


def _without_row(session: Session, found: list[Listed]) -> list[Listed]:
    wanted = {blob.key: image for blob in found if (image := _image_of(blob.key)) is not None}
    known: set[tuple[UUID, str]] = set()
    for dataset_id in {dataset_id for dataset_id, _ in wanted.values()}:
        hashes = [sha256 for of, sha256 in wanted.values() if of == dataset_id]
        known |= {(dataset_id, sha256) for sha256 in images.known(session, dataset_id, hashes)}
    return [blob for blob in found if blob.key in wanted and wanted[blob.key] not in known]


def _image_of(key: str) -> tuple[UUID, str] | None:
    """Dataset and hash of the image that a blob is, or is a thumbnail of; None for what is not ours."""
    parts = key.split("/")
    sha256 = parts[-1].removesuffix(".webp")
    is_ours = len(parts) == 3 or (len(parts) == 4 and parts[2] == "thumbnails")
    try:
        return (UUID(parts[1]), sha256) if is_ours and len(sha256) == 64 else None
    except ValueError:
        return None


def _answers(sessions: sessionmaker[Session], settings: Settings, *, dry_run: bool) -> Freed:
    with transaction(sessions) as session:
        before = now(session) - timedelta(seconds=settings.answers_kept_s)
        count = idempotency.count_old if dry_run else idempotency.forget
        return Freed(count(session, before))


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file or folder that may go; `used_at` in seconds since 1970."""

    path: Path
    bytes: int
    used_at: float

    def remove(self) -> None:
        if self.path.is_dir():
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            self.path.unlink(missing_ok=True)


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


def _shrunk(
    found: Iterator[_Kept], most_bytes: int, may_go: Callable[[_Kept], bool], *, dry_run: bool
) -> Freed:
    """Those unused longest go until the rest has at most so many bytes."""
    kept = sorted(found, key=lambda item: item.used_at)
    over, gone = sum(item.bytes for item in kept) - most_bytes, []
    for item in kept:
        if over <= 0:
            break
        if may_go(item):
            gone.append(item.bytes)
            over -= item.bytes
            if not dry_run:
                item.remove()
    return _total(gone)


def _work(settings: Settings, *, dry_run: bool) -> Freed:
    """Checkpoints. What was written within the grace period may be a running job's."""
    folders, now_s = list(_folders(settings.work_dir)), time.time()
    old = [folder for folder in folders if now_s - folder.used_at > max(WORK_KEPT_S, settings.gc_grace_s)]
    if not dry_run:
        for folder in old:
            folder.remove()
    idle = _shrunk(
        (folder for folder in folders if folder not in old),
        settings.work_max_bytes,
        lambda folder: now_s - folder.used_at > settings.gc_grace_s,
        dry_run=dry_run,
    )
    return Freed(len(old) + idle.count, sum(folder.bytes for folder in old) + idle.bytes)


def _folders(root: Path) -> Iterator[_Kept]:
    if not root.is_dir():
        return
    for folder in root.iterdir():
        inside = list(_files(folder))
        with suppress(FileNotFoundError):  # a job that ended just now has cleared its own
            # A job that opens a folder touches it: not every file system notes that files were read.
            used_at = max([folder.stat().st_mtime, *(item.used_at for item in inside)])
            yield _Kept(folder, sum(item.bytes for item in inside), used_at)
