"""One job from claim to end: a child process does the work, this side keeps the lease and the watch.

A crash on any line leaves the job held with a lease that runs out; the sweeper takes it from there.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO
from uuid import UUID, uuid4

from sqlalchemy.orm import Session, sessionmaker

from siftline import logs
from siftline.dispatch import Bell, ring_after_commit
from siftline.domain.errors import JobStalled, WorkerLost
from siftline.domain.jobs import FINISHED, JobState, Lane
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.jobs import Claim
from siftline.store.session import DATABASE_AWAY, reading, retrying, transaction
from siftline_workers.parent import WHERE_ARE_YOU, bound_to_us

log = logging.getLogger(__name__)

CHILD = ("-m", "siftline_workers.child")
DATABASE_PATIENCE_S = 60.0

Child = subprocess.Popen[bytes]


def new_worker_id() -> str:
    return f"{socket.gethostname()[:60]}:{os.getpid()}:{uuid4().hex[:6]}"


@dataclass(frozen=True, slots=True)
class Supervisor:
    """Runs jobs for one worker, each in a fresh process: memory and CUDA are given back when it ends."""

    settings: Settings
    sessions: sessionmaker[Session]
    worker_id: str
    bell: Bell
    child: tuple[str, ...] = CHILD  # arguments to this Python
    stderr: IO[bytes] | None = None  # where the child logs; ours if None

    def run_next(self, lanes: Collection[Lane], stop: threading.Event) -> bool:
        """Run the job of these lanes whose turn it is, as `run` does; False when none is waiting."""
        while not stop.is_set():
            # Reading first: an idle worker must not take SQLite's write lock three times a second.
            with reading(self.sessions) as session:
                job_id = jobs.next_queued(session, lanes)
            if job_id is None:
                return False
            if self.run(job_id, stop):
                return True
        return False

    def run(self, job_id: UUID, stop: threading.Event) -> bool:
        """Run the job if it is still to be had, until it ended; when `stop` is set it goes back to the queue.

        Returns whether we got it: of two workers that want it at once, one is refused here.
        """
        owner = (
            f"{self.worker_id}:{uuid4().hex[:8]}"  # new each time, so no later run is mistaken for this one
        )
        job = retrying(
            self.sessions,
            lambda session: jobs.claim(session, job_id, owner, self.settings.lease_s),
            patience_s=DATABASE_PATIENCE_S,
        )
        if job is None:
            log.info("job %s: not to be had", job_id)
            return False
        with logs.about(job_id=str(job_id), request_id=job.request_id):
            self._see_through(Claim(job_id, owner, job.attempt), stop)
        return True

    def _see_through(self, claim: Claim, stop: threading.Event) -> None:
        log.info("job %s: attempt %d", claim.job_id, claim.attempt)
        with self.start(claim.job_id, owner=claim.owner, attempt=claim.attempt) as child:
            watch = Watch(self, claim, child, stop)
            try:
                watch.until_it_ends()
            finally:
                kill(child)
        self._settle(watch)

    def start(self, job_id: UUID, **order: object) -> Child:
        """A process that works on the job; `order` is what `child.main` wants to know besides."""
        child = subprocess.Popen(  # noqa: S603 - our own interpreter on our own module
            bound_to_us(*self.child),
            stdin=subprocess.PIPE,
            stderr=self.stderr,
            start_new_session=True,
        )
        order |= {
            "job_id": str(job_id),
            "settings": self.settings.model_dump(mode="json", exclude={"api_key"}),
        }
        assert child.stdin is not None  # noqa: S101 - asked for above
        try:
            # On standard input, because command lines and environments are readable by others.
            child.stdin.write(json.dumps(order).encode() + b"\n")
            child.stdin.close()
        except BrokenPipeError:
            log.warning("job %s: its process died at once", job_id)
        return child

    def _settle(self, watch: "Watch") -> None:
        """Write down what the child could not: that it stopped, or died."""
        claim, end = watch.claim, watch.how_it_ended()
        error = JobStalled if watch.stands_still else WorkerLost

        def settle(session: Session) -> JobState | None:
            state = jobs.state_of(session, claim, lock=True)
            if state == JobState.CANCELLING:
                jobs.cancelled(session, claim, "stopped")
            elif state == JobState.RUNNING:
                if watch.stop.is_set():
                    jobs.release(session, claim, "the worker is shutting down")
                else:
                    jobs.give_up_or_requeue(session, claim, end, self.settings.max_attempts, error)
                job = jobs.get(session, claim.job_id)
                if job.state == JobState.QUEUED:
                    ring_after_commit(session, self.bell, job)
            return jobs.state_of(session, claim)

        state = retrying(self.sessions, settle, patience_s=DATABASE_PATIENCE_S)
        log.info("job %s: %s, %s", claim.job_id, end, state or "not ours any more")


@dataclass(slots=True)
class Watch:
    """Looks after one child until it ends: keeps the lease, sees cancel requests, stops it in steps.

    A child whose process lives but makes no progress is ended, too: nobody else would ever do it.
    """

    supervisor: Supervisor
    claim: Claim
    child: Child
    stop: threading.Event
    stands_still: bool = False
    """It was ended because of that."""
    renewed_at: float = field(default_factory=time.monotonic)
    asked_at: float | None = None
    database_away: bool = False
    step: datetime | None = None
    """When it made its last step, by the database's clock; and by ours, when we saw it."""
    stepped_at: float = field(default_factory=time.monotonic)

    def until_it_ends(self) -> None:
        while True:
            try:
                self.child.wait(self.supervisor.settings.poll_s)
            except subprocess.TimeoutExpired:
                self._look()
            else:
                return

    def _look(self) -> None:
        try:
            state = self._state()
            if state is None:
                log.warning("job %s: lost to another worker", self.claim.job_id)
                kill(self.child)
                return
            self._renew()
            self.database_away = False
        except DATABASE_AWAY as error:
            # The child may go on: what it writes is guarded, and a late renewal counts if nobody took over.
            if not self.database_away:
                log.warning("job %s: the database is away (%s)", self.claim.job_id, type(error.orig).__name__)
            self.database_away = True
            self.stepped_at = time.monotonic()  # whatever it does, it could not tell us
            state = JobState.RUNNING
        if state in FINISHED:
            self._stop_the_child()
        elif state != JobState.RUNNING or self.stop.is_set():
            self._stop_the_child(asking=signal.SIGTERM)
        elif self.stands_still or self._is_silent():
            self.stands_still = True
            self._stop_the_child(asking=WHERE_ARE_YOU)

    def _state(self) -> JobState | None:
        with reading(self.supervisor.sessions) as session:
            found = jobs.watched(session, self.claim)
        if found is None:
            return None
        state, step = found
        if step != self.step:
            self.step, self.stepped_at = step, time.monotonic()
        return state

    def _is_silent(self) -> bool:
        patience_s = self.supervisor.settings.job_silence_s
        return 0 < patience_s < time.monotonic() - self.stepped_at

    def _renew(self) -> None:
        lease_s = self.supervisor.settings.lease_s
        if time.monotonic() - self.renewed_at < lease_s / 3:
            return
        with transaction(self.supervisor.sessions) as session:
            jobs.renew(session, self.claim, lease_s)
        self.renewed_at = time.monotonic()

    def _stop_the_child(self, asking: signal.Signals | None = None) -> None:
        """First ask, or wait for one that has finished; kill when that does not help."""
        if self.asked_at is None:
            self.asked_at = time.monotonic()
            if asking is not None:
                self.child.send_signal(asking)
        elif time.monotonic() - self.asked_at > self.supervisor.settings.cancel_grace_s:
            kill(self.child)

    def how_it_ended(self) -> str:
        code, silence_s = self.child.returncode, self.supervisor.settings.job_silence_s
        if self.stands_still:
            return f"it made no progress for {silence_s:g} s"
        if code >= 0:
            return f"its process exited with {code}"
        return f"its process was ended by {signal.Signals(-code).name}"


def kill(child: Child) -> None:
    """The child and whatever it started: it leads its own process group."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
