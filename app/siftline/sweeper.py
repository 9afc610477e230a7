"""Repairs what a crash left behind. Any number of sweepers may run: every repair is a guarded move."""

import logging
import threading
import time
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline import garbage
from siftline.dispatch import Bell, make_bell, ring_after_commit, silent
from siftline.domain.jobs import FINISHED, JobState, Lane
from siftline.settings import Settings
from siftline.store import job_scores, jobs, parts, workers
from siftline.store.blobs import SCORING_PREFIX, Blobs
from siftline.store.blobs_open import open_blobs
from siftline.store.models import Job
from siftline.store.session import DATABASE_AWAY, make_engine, reading, session_factory, transaction

log = logging.getLogger(__name__)

UNKNOWN_S = 3600.0
STOP_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Swept:
    """How many jobs one pass repaired."""

    requeued: int = 0
    failed: int = 0
    cancelled: int = 0
    rung: int = 0


def sweep(sessions: sessionmaker[Session], settings: Settings, bell: Bell, blobs: Blobs) -> Swept:
    """One pass: jobs whose worker fell silent go back, end or fail; jobs nobody heard of are rung again."""
    with transaction(sessions) as session:
        ends = [_repair(session, settings, bell, job) for job in jobs.stranded(session)]
    with transaction(sessions) as session:
        rung = _ring_again(session, settings, bell)
        workers.forget_the_dead(session)
        parts.forget_finished(session)
    _clear_scored(sessions, blobs)
    swept = Swept(
        requeued=ends.count(JobState.QUEUED),
        failed=ends.count(JobState.FAILED),
        cancelled=ends.count(JobState.CANCELLED),
        rung=rung,
    )
    if swept != Swept():
        log.info("%s", swept)
    return swept


def _repair(session: Session, settings: Settings, bell: Bell, job: Job) -> JobState:
    held = jobs.Claim(job.id, job.owner or "", job.attempt)
    if job.state == JobState.CANCELLING:
        jobs.cancelled(session, held, "its worker fell silent")
        return JobState.CANCELLED
    job = jobs.give_up_or_requeue(session, held, "its worker fell silent", settings.max_attempts)
    if job.state == JobState.QUEUED:
        ring_after_commit(session, bell, job)
    return JobState(job.state)


def _ring_again(session: Session, settings: Settings, bell: Bell) -> int:
    if bell is silent:
        return 0
    # While every worker is busy a waiting job is no sign of a lost message; ringing would only pile up more.
    busy, rung = jobs.holders(session), 0
    for worker in workers.alive(session, settings.lease_s):
        if worker.id not in busy:
            lanes = list(Lane) if worker.lanes is None else [Lane(lane) for lane in worker.lanes]
            for job in jobs.mark_rung(session, lanes, settings.lease_s, limit=1):
                ring_after_commit(session, bell, job)
                rung += 1
    return rung


def _clear_scored(sessions: sessionmaker[Session], blobs: Blobs) -> None:
    """Images that were sent to be scored are kept until their job is over, however it ended.

    Those whose job is not known yet are on their way in, unless they are old: then the request died.
    """
    keys = [blob.key for blob in blobs.listed(SCORING_PREFIX)]
    kept = {key: UUID(key.split("/")[1]) for key in keys}
    with reading(sessions) as session:
        states = job_scores.job_states(session, set(kept.values())) if kept else {}
    for key, job_id in kept.items():
        made_s = (job_id.int >> 80) / 1000  # a UUIDv7 begins with its time in milliseconds
        if states.get(job_id) in FINISHED or (job_id not in states and time.time() - made_s > UNKNOWN_S):
            blobs.delete(key)


def run_forever(settings: Settings, stop: threading.Event) -> None:
    """Sweep every `settings.sweep_s` seconds until `stop` is set; collect garbage beside it."""
    engine = make_engine(settings.sqlalchemy_url)
    sessions, bell, blobs = session_factory(engine), make_bell(settings), open_blobs(settings)
    # Beside it, because a look at ten million blobs must not keep a stranded job waiting.
    collecting = threading.Thread(
        target=garbage.run_forever, args=(sessions, settings, blobs, stop), daemon=True
    )
    collecting.start()
    try:
        while not stop.is_set():
            try:
                sweep(sessions, settings, bell, blobs)
            except DATABASE_AWAY as error:
                log.warning("the database is away (%s)", type(error.orig).__name__)
            except Exception:
                log.exception("a sweep failed; the next one tries again")
            stop.wait(settings.sweep_s)
    finally:
        stop.set()
        collecting.join(STOP_WITHIN_S)  # whatever it is deleting, the next one finds the rest
        engine.dispose()
