"""A job as seen by the code that does its work, inside the job's own process."""

import logging
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import SiftlineError
from siftline.domain.jobs import JobKind, JobState, Usage
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.jobs import Claim, LostJob
from siftline.store.models import Job
from siftline.store.session import DATABASE_AWAY, retrying, transaction

__all__ = ["Cancelled", "LostJob", "RunningJob"]

log = logging.getLogger(__name__)

REPORT_EVERY_S = 0.5
DATABASE_PATIENCE_S = 60.0


class Cancelled(Exception):
    """The job was asked to stop; let it pass."""


class RunningJob:
    """One attempt at a job: what to do, how to tell about it, how to end it.

    `report` and `succeed` raise Cancelled when the job was asked to stop, LostJob when it is no longer ours.
    """

    def __init__(
        self,
        job: Job,
        claim: Claim,
        settings: Settings,
        sessions: sessionmaker[Session],
        stop: threading.Event,
    ) -> None:
        self.id = job.id
        self.dataset_id = job.dataset_id
        self.detector_id = job.detector_id
        self.kind = JobKind(job.kind)
        self.attempt = job.attempt
        self.params: dict[str, Any] = dict(job.params)
        self.settings = settings
        self.sessions = sessions
        self.ended = False
        self._claim = claim
        self._stop = stop
        self._stage = ""
        self._reported_at = 0.0
        self._began_at = time.monotonic()
        self._peak_bytes = 0

    @property
    def owner(self) -> str:
        """Who runs this attempt."""
        return self._claim.owner

    def report(self, stage: str, progress: float) -> None:
        """Tell how far the whole job is, 0 to 1. Call it often: it writes every half second at most."""
        if self._stop.is_set():
            raise Cancelled
        if stage == self._stage and time.monotonic() - self._reported_at < REPORT_EVERY_S:
            return
        self._stage, self._reported_at = stage, time.monotonic()
        self._peak_bytes = max(self._peak_bytes, _own_memory_bytes())
        try:
            with transaction(self.sessions) as session:
                if not jobs.report(session, self._claim, stage, min(max(float(progress), 0.0), 1.0)):
                    raise self._no_longer_running(jobs.state_of(session, self._claim))
        except DATABASE_AWAY as error:
            # Progress is a courtesy: work goes on, and the next report may find the database back.
            log.warning("job %s: progress not written (%s)", self.id, type(error.orig).__name__)

    def succeed(self, write: Callable[[Session], dict[str, Any]]) -> None:
        """End the job: what `write` writes, the result it returns and the success are one transaction.

        Run again from its start when the connection breaks, so `write` must touch nothing but the session.
        """

        peak_bytes = max(self._peak_bytes, _own_memory_bytes())
        usage = Usage(round(time.monotonic() - self._began_at, 1), peak_bytes)

        def finish(session: Session) -> None:
            state = jobs.state_of(session, self._claim, lock=True)
            if state == JobState.SUCCEEDED:  # a commit whose answer never came
                return
            if state != JobState.RUNNING:
                raise self._no_longer_running(state)
            jobs.succeed(session, self._claim, write(session), usage)

        retrying(self.sessions, finish, patience_s=DATABASE_PATIENCE_S)
        self.ended = True

    def fail(self, error: SiftlineError) -> None:
        """End the job as failed, unless it is being cancelled or belongs to somebody else by now."""

        def finish(session: Session) -> None:
            if jobs.state_of(session, self._claim, lock=True) == JobState.RUNNING:
                jobs.fail(session, self._claim, error)

        retrying(self.sessions, finish, patience_s=DATABASE_PATIENCE_S)
        self.ended = True

    def _no_longer_running(self, state: JobState | None) -> Exception:
        return Cancelled() if state == JobState.CANCELLING else LostJob(f"job {self.id}")


def _own_memory_bytes() -> int:
    """Of this process now, without what it has mapped from files: those pages go when others need room."""
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields["RssAnon"].split()[0]) * 1024
    except (OSError, LookupError, ValueError):  # not Linux: rather too much than nothing
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
