"""The sweeper repairs what a crash left behind, and any number of sweepers do no more harm than one."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import enqueue, make_bell
from siftline.domain.jobs import JobKind, JobState, Lane
from siftline.settings import Settings
from siftline.store import jobs, workers
from siftline.store.blobs_local import LocalBlobs
from siftline.store.jobs import LostJob
from siftline.store.models import Job, Worker
from siftline.store.session import make_engine, now, reading, session_factory, transaction
from siftline.sweeper import Swept, sweep
from tests.conftest import free_port
from tests.integration.job_steps import add_dataset, add_job, bring_to, claim, read, states


class Bell:
    """A bell that remembers."""

    def __init__(self) -> None:
        self.rung: list[UUID] = []

    def __call__(self, lane: Lane, job_id: UUID) -> None:
        assert lane == Lane.HEAVY
        self.rung.append(job_id)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def swept(sessions: sessionmaker[Session], settings: Settings, bell: Bell) -> Callable[[], Swept]:
    return lambda: sweep(sessions, settings, bell, LocalBlobs(settings.blobs_dir))


def age(sessions: sessionmaker[Session], job_id: UUID, **moments: timedelta) -> None:
    """Set these columns of the job to so long ago."""
    with transaction(sessions) as session:
        values = {column: now(session) - ago for column, ago in moments.items()}
        session.execute(update(Job).where(Job.id == job_id).values(values))


MINUTE = timedelta(minutes=1)


def test_a_job_whose_worker_fell_silent_is_queued_and_rung_again(
    sessions: sessionmaker[Session], swept: Callable[[], Swept], bell: Bell
) -> None:
    held = bring_to(sessions, JobState.RUNNING)
    age(sessions, held.job_id, lease_until=MINUTE)

    assert swept() == Swept(requeued=1)
    assert bell.rung == [held.job_id]
    job = read(sessions, held.job_id)
    assert (job.state, job.owner, job.attempt) == ("queued", None, 1)
    assert states(sessions, held.job_id) == ["queued", "running", "queued"]
    with pytest.raises(LostJob), transaction(sessions) as session:
        jobs.succeed(session, held, {})  # the worker was only slow: too late
    assert claim(sessions, held.job_id, "another").attempt == 2


def test_a_job_that_lost_its_worker_too_often_fails(
    sessions: sessionmaker[Session], swept: Callable[[], Swept], settings: Settings, bell: Bell
) -> None:
    job_id = add_job(sessions)
    for attempt in range(1, settings.max_attempts + 1):
        assert claim(sessions, job_id, f"worker {attempt}").attempt == attempt
        age(sessions, job_id, lease_until=MINUTE)
        swept()
    job = read(sessions, job_id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["status"]) == ("worker-lost", 500)
    assert len(bell.rung) == settings.max_attempts - 1


def test_a_cancelled_job_whose_worker_died_ends_as_cancelled(
    sessions: sessionmaker[Session], swept: Callable[[], Swept]
) -> None:
    held = bring_to(sessions, JobState.CANCELLING)
    assert swept() == Swept()
    age(sessions, held.job_id, lease_until=MINUTE)
    assert swept() == Swept(cancelled=1)
    assert states(sessions, held.job_id) == ["queued", "running", "cancelling", "cancelled"]


def test_a_job_with_a_good_lease_is_left_alone(
    sessions: sessionmaker[Session], swept: Callable[[], Swept], bell: Bell
) -> None:
    for state in JobState:
        if state != JobState.QUEUED:
            bring_to(sessions, state)
    assert swept() == Swept()
    assert bell.rung == []


def test_a_lost_message_is_rung_again_when_somebody_is_idle(
    sessions: sessionmaker[Session], swept: Callable[[], Swept], bell: Bell
) -> None:
    waiting = [add_job(sessions) for _ in range(3)]
    for job_id in waiting:
        age(sessions, job_id, rung_at=MINUTE)
    assert swept() == Swept(), "nobody is there to hear it"

    with transaction(sessions) as session:
        workers.beat(session, "idle")
    assert swept() == Swept(rung=1), "one worker takes one job"
    assert bell.rung == waiting[:1]
    assert swept() == Swept(rung=1)
    assert swept() == Swept(rung=1)
    assert swept() == Swept(), "all have just been rung"
    assert bell.rung == waiting


def test_nothing_is_rung_while_every_worker_is_busy(
    sessions: sessionmaker[Session], swept: Callable[[], Swept], bell: Bell
) -> None:
    with transaction(sessions) as session:
        workers.beat(session, "busy")
    claim(sessions, add_job(sessions), "busy:1")
    job_id = add_job(sessions)
    age(sessions, job_id, rung_at=MINUTE)
    assert swept() == Swept()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_nothing_is_rung_where_workers_poll(sessions: sessionmaker[Session], settings: Settings) -> None:
    with transaction(sessions) as session:
        workers.beat(session, "idle")
    job_id = add_job(sessions)
    assert sweep(sessions, settings, make_bell(settings), LocalBlobs(settings.blobs_dir)) == Swept()
    assert read(sessions, job_id).rung_at is None


def test_several_sweepers_at_once_repair_each_job_once(
    database_url: str, sessions: sessionmaker[Session], settings: Settings
) -> None:
    stranded = [bring_to(sessions, JobState.RUNNING).job_id for _ in range(10)]
    for job_id in stranded:
        age(sessions, job_id, lease_until=MINUTE)
    start, bell = threading.Barrier(4), Bell()

    def one_sweeper(_: int) -> Swept:
        engine = make_engine(database_url)
        start.wait()
        try:
            return sweep(session_factory(engine), settings, bell, LocalBlobs(settings.blobs_dir))
        finally:
            engine.dispose()

    with ThreadPoolExecutor(4) as pool:
        all_swept = list(pool.map(one_sweeper, range(4)))
    assert sum(swept.requeued for swept in all_swept) == len(stranded)
    assert sorted(bell.rung) == sorted(stranded)
    assert all(states(sessions, job_id) == ["queued", "running", "queued"] for job_id in stranded)


def test_a_worker_is_alive_while_it_beats(sessions: sessionmaker[Session]) -> None:
    with transaction(sessions) as session:
        for worker_id in ("a", "b", "a", "old"):
            workers.beat(session, worker_id)
        session.execute(
            update(Worker).where(Worker.id == "old").values(beat_at=now(session) - timedelta(days=2))
        )
        workers.leave(session, "b")
    with reading(sessions) as session:
        assert [worker.id for worker in workers.alive(session, within_s=10)] == ["a"]
    with transaction(sessions) as session:
        workers.forget_the_dead(session)
        assert session.get(Worker, "old") is None
        assert session.get(Worker, "a") is not None


def test_enqueueing_rings_after_the_commit_only(sessions: sessionmaker[Session], bell: Bell) -> None:
    dataset_id = add_dataset(sessions)
    with transaction(sessions) as session:
        job = enqueue(session, bell, dataset_id, JobKind.PURIFY, {})
        assert bell.rung == []
    assert bell.rung == [job.id]
    assert read(sessions, job.id).rung_at is not None


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_broker_that_is_down_fails_no_request(sessions: sessionmaker[Session], settings: Settings) -> None:
    bell = make_bell(settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"}))
    dataset_id = add_dataset(sessions)
    with transaction(sessions) as session:
        job_id = enqueue(session, bell, dataset_id, JobKind.PURIFY, {}).id
    assert read(sessions, job_id).state == JobState.QUEUED
