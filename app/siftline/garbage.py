"""What nobody needs any more, found and removed: never what an upload or a job in hand may still need.

Uploads put bytes first and commit rows later, so a blob without a row is garbage only once it is older than
any request can be (`gc_grace_s`); its age is looked at again in the very moment it goes.
"""

import logging
import threading
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline import caches
from siftline.caches import Freed, total
from siftline.settings import Settings
from siftline.store import idempotency, images, spool
from siftline.store.blobs import DATASETS_PREFIX, PROBE_PREFIX, Blobs, Listed, content_of
from siftline.store.session import now, reading, transaction

log = logging.getLogger(__name__)

AT_ONCE = 1000
FEW = 100
"""So many blobs without rows are no reason to think that something is wrong with the database."""


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
        "spool": total(spool.clear_abandoned(settings.spool_dir, dry_run=dry_run)),
        "answers": _answers(sessions, settings, dry_run=dry_run),
        **caches.collect(sessions, settings, dry_run=dry_run),
    }


def run_forever(
    sessions: sessionmaker[Session], settings: Settings, blobs: Blobs | None, stop: threading.Event
) -> None:
    """Collect every `gc_s` seconds until `stop` is set; never when that is 0. Without `blobs` only this
    machine's caches.
    """
    if settings.gc_s == 0:
        return
    while not stop.wait(settings.gc_s):
        try:
            freed = (
                caches.collect(sessions, settings) if blobs is None else collect(sessions, settings, blobs)
            )
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
    return total([blob.bytes for blob in orphans if blobs.delete(blob.key, unless_put_after=before)])


def _without_row(session: Session, found: list[Listed]) -> list[Listed]:
    wanted = {blob.key: image for blob in found if (image := content_of(blob.key)) is not None}
    known: set[tuple[UUID, str]] = set()
    for dataset_id in {dataset_id for dataset_id, _ in wanted.values()}:
        hashes = [sha256 for of, sha256 in wanted.values() if of == dataset_id]
        known |= {(dataset_id, sha256) for sha256 in images.known(session, dataset_id, hashes)}
    return [blob for blob in found if blob.key in wanted and wanted[blob.key] not in known]


def _answers(sessions: sessionmaker[Session], settings: Settings, *, dry_run: bool) -> Freed:
    with transaction(sessions) as session:
        before = now(session) - timedelta(seconds=settings.answers_kept_s)
        count = idempotency.count_old if dry_run else idempotency.forget
        return Freed(count(session, before))
