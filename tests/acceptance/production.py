"""A deployment with real Celery workers that a test may do anything to."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import enqueue, make_bell
from siftline.domain.jobs import JobKind, Lane
from siftline.settings import Settings
from siftline.store import workers
from siftline.store.models import Job
from siftline.store.session import now, reading, transaction
from tests.acceptance.programs import CELERY, Program, Programs, eventually
from tests.conftest import free_port, start_redis
from tests.integration.job_steps import add_dataset, read

LONG_LEASE_S = 600.0


class OwnRedis:
    """A Redis that keeps nothing and that one test may stop and start."""

    def __init__(self, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        self.start()

    def start(self) -> None:
        self.server = start_redis(self.port, self.folder)

    def stop(self) -> None:
        self.server.kill()
        self.server.wait()


class Production:
    """The parts of a deployment, and what a test does to them."""

    def __init__(self, settings: Settings, sessions: sessionmaker[Session], programs: Programs) -> None:
        self.settings, self.sessions, self.programs = settings, sessions, programs
        self.bell = make_bell(settings)
        self.dataset_id = add_dataset(sessions)
        self.diary = programs.folder / "diary"

    def set(self, **changes: object) -> None:
        """Of the workers that are started from now on."""
        self.settings = self.settings.model_copy(update=changes)

    def start_workers(self, count: int = 1, lanes: Sequence[Lane] = tuple(Lane)) -> list[Program]:
        there = len(self.workers())
        settings = self.settings.model_copy(update={"lanes": tuple(lanes)})
        started = [self.programs.start(settings, *CELERY) for _ in range(count)]
        eventually(lambda: len(self.workers()) == there + count)
        return started

    def workers(self) -> list[str]:
        with reading(self.sessions) as session:
            return [worker.id for worker in workers.alive(session, self.settings.lease_s)]

    def enqueue(
        self, seconds: float = 600.0, does: str = "sleep", lane: Lane | None = None, until: str = "released"
    ) -> UUID:
        params = {"diary": str(self.diary), "seconds": seconds, "does": does}
        params["until"] = str(self.programs.folder / until)
        with transaction(self.sessions) as session:
            return enqueue(session, self.bell, self.dataset_id, JobKind.PURIFY, params, lane=lane).id

    def has_waited_long(self, job_id: UUID) -> None:
        """Since its bell was rung."""
        with transaction(self.sessions) as session:
            long_ago = now(session) - timedelta(seconds=2 * LONG_LEASE_S)
            session.execute(update(Job).where(Job.id == job_id).values(rung_at=long_ago))

    def release(self, what: str = "released") -> None:
        (self.programs.folder / what).touch()

    def state(self, job_id: UUID) -> str:
        return read(self.sessions, job_id).state

    def is_at_work(self, job_id: UUID) -> bool:
        return read(self.sessions, job_id).stage == "sleeping"

    def owner_pid(self, job_id: UUID) -> int:
        owner = read(self.sessions, job_id).owner
        assert owner is not None
        return int(owner.split(":")[1])

    def pids(self) -> list[int]:
        """The process of each attempt at any job, oldest first."""
        return [int(line) for line in self.diary.read_text().splitlines()] if self.diary.exists() else []
