"""Real Celery workers, Redis and PostgreSQL: kill what you like, no job is lost and none runs twice.

A job lasts until it is released, so that what is done to its worker is always done in time. Leases are long
but for the one that has to run out: on a busy machine a worker may come to renew a short one too late.
"""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
import redis
from sqlalchemy import make_url
from sqlalchemy.orm import Session, sessionmaker

from siftline import sweeper
from siftline.domain.jobs import JobState, Lane
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.session import transaction
from tests.acceptance.production import LONG_LEASE_S, OwnRedis, Production
from tests.acceptance.programs import Programs, eventually, is_running, stop
from tests.faults.network import Wire
from tests.integration.job_steps import read, states

SHORT_LEASE_S = 6.0
pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    server = OwnRedis(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def settings(settings: Settings, request: pytest.FixtureRequest) -> Settings:
    if "own_redis" in request.fixturenames:
        redis_url = f"redis://127.0.0.1:{request.getfixturevalue('own_redis').port}/0"
    else:
        redis_url = request.getfixturevalue("redis_url")
    return settings.model_copy(update={"redis_url": redis_url, "lease_s": LONG_LEASE_S})


@pytest.fixture
def production(settings: Settings, sessions: sessionmaker[Session], tmp_path: Path) -> Iterator[Production]:
    programs, swept_enough = Programs(tmp_path), threading.Event()
    sweeps = threading.Thread(target=sweeper.run_forever, args=(settings, swept_enough))
    sweeps.start()
    yield Production(settings, sessions, programs)
    swept_enough.set()
    sweeps.join()
    programs.kill_all()
    print(programs.logs())  # noqa: T201 - pytest shows it when the test failed


Finished = Callable[[], bool]


def succeeded(production: Production, job_id: UUID) -> Finished:
    return lambda: production.state(job_id) == JobState.SUCCEEDED


def test_a_job_runs_once_however_often_its_message_is_delivered(production: Production) -> None:
    first, second = production.start_workers(2)
    job_id = production.enqueue()
    eventually(lambda: production.is_at_work(job_id))
    for _ in range(5):
        production.bell(Lane.HEAVY, job_id)
    production.release()
    eventually(succeeded(production, job_id))
    assert states(production.sessions, job_id) == ["queued", "running", "succeeded"]
    assert len(production.pids()) == 1
    assert (stop(first), stop(second)) == (0, 0)
    assert production.workers() == [], "workers that leave say so"


def test_a_worker_killed_in_mid_job_is_replaced_by_another(production: Production) -> None:
    production.set(lease_s=SHORT_LEASE_S)
    (killed,) = production.start_workers()
    job_id = production.enqueue()
    eventually(lambda: production.is_at_work(job_id))
    production.set(lease_s=LONG_LEASE_S)
    (other,) = production.start_workers()
    killed.kill()

    eventually(lambda: not is_running(production.pids()[0]))
    production.release()
    eventually(succeeded(production, job_id))
    assert states(production.sessions, job_id) == ["queued", "running", "queued", "running", "succeeded"]
    assert read(production.sessions, job_id).result == {"attempt": 2}
    assert production.owner_pid(job_id) == other.pid
    assert len(production.pids()) == 2


def test_a_lost_message_is_rung_again(production: Production, redis_url: str) -> None:
    job_id = production.enqueue(seconds=0.1)
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("siftline.heavy") == 1
        client.flushdb()  # what a Redis without AOF does when it restarts
    production.start_workers()
    production.has_waited_long(job_id)
    eventually(succeeded(production, job_id))
    assert len(production.pids()) == 1


def test_cancelling_frees_the_worker_for_the_next_job(production: Production) -> None:
    production.start_workers()
    for does in ("sleep", "sleep without a word"):
        before = len(production.pids())
        long, short = production.enqueue(does=does), production.enqueue(seconds=0.1)
        eventually(lambda before=before: len(production.pids()) > before)  # type: ignore[misc]  # no hint in a lambda
        with transaction(production.sessions) as session:
            jobs.request_cancel(session, long)
        eventually(succeeded(production, short))
        assert production.state(long) == JobState.CANCELLED
        assert not is_running(production.pids()[before])


def test_a_job_that_stands_still_is_tried_again_and_given_up_in_the_end(production: Production) -> None:
    production.set(job_silence_s=2.0, max_attempts=2)
    (worker,) = production.start_workers()
    job_id = production.enqueue(does="sleep without a word")
    eventually(lambda: production.state(job_id) == JobState.FAILED)
    error = read(production.sessions, job_id).error
    assert error is not None
    assert error["code"] == "job-stalled"
    assert states(production.sessions, job_id) == ["queued", "running", "queued", "running", "failed"]
    assert not any(is_running(pid) for pid in production.pids())
    assert stop(worker) == 0


def test_a_worker_that_is_stopped_hands_its_job_on_at_once(production: Production) -> None:
    (worker,) = production.start_workers()
    job_id = production.enqueue()
    eventually(lambda: production.is_at_work(job_id))
    assert stop(worker) == 0
    job = read(production.sessions, job_id)
    assert (job.state, job.attempt) == ("queued", 0)
    assert not is_running(production.pids()[0])

    production.release()
    production.start_workers()
    eventually(succeeded(production, job_id))
    assert read(production.sessions, job_id).result == {"attempt": 1}


def test_a_worker_goes_when_it_is_asked_although_redis_says_nothing(
    production: Production, own_redis: OwnRedis
) -> None:
    wire = Wire(own_redis.port)
    production.set(redis_url=f"redis://127.0.0.1:{wire.port}/0")
    (worker,) = production.start_workers()
    job_id = production.enqueue()
    eventually(lambda: production.is_at_work(job_id))
    wire.hold()
    try:
        assert stop(worker) == 0
        assert (production.state(job_id), read(production.sessions, job_id).attempt) == (JobState.QUEUED, 0)
    finally:
        wire.close()


def test_a_job_goes_on_while_redis_restarts(production: Production, own_redis: OwnRedis) -> None:
    production.start_workers()
    job_id = production.enqueue()
    eventually(lambda: production.is_at_work(job_id))
    own_redis.stop()
    unheard = production.enqueue(seconds=0.1)
    time.sleep(0.5)
    own_redis.start()
    production.has_waited_long(unheard)
    production.release()
    for each in (job_id, unheard):
        eventually(succeeded(production, each))
        assert states(production.sessions, each) == ["queued", "running", "succeeded"]
    assert len(production.pids()) == 2


def test_a_job_goes_on_and_may_end_while_the_database_is_away(
    production: Production, database_url: str
) -> None:
    production.start_workers()
    goes_on = production.enqueue(until="the database is back")
    eventually(lambda: production.is_at_work(goes_on))
    with away(database_url):
        time.sleep(1.0)
    production.release("the database is back")
    eventually(succeeded(production, goes_on))
    ends = production.enqueue()
    eventually(lambda: production.is_at_work(ends))
    with away(database_url):
        production.release()
        time.sleep(1.0)
    for job_id in (goes_on, ends):
        eventually(succeeded(production, job_id))
        assert states(production.sessions, job_id) == ["queued", "running", "succeeded"]
    assert len(production.pids()) == 2


class away:  # noqa: N801 - reads as the sentence it makes
    """The database refuses everybody and drops all connections, as while PostgreSQL restarts."""

    def __init__(self, url: str) -> None:
        address = make_url(url).set(drivername="postgresql")
        self.name = address.database
        self.server = address.set(database="postgres").render_as_string(hide_password=False)

    def __enter__(self) -> None:
        self._allow("false")
        with psycopg.connect(self.server) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [self.name]
            )

    def __exit__(self, *_: object) -> None:
        self._allow("true")

    def _allow(self, answer: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{self.name}" ALLOW_CONNECTIONS {answer}'.encode())


def test_a_backlog_is_worked_off_by_all_workers(production: Production) -> None:
    queued = [production.enqueue() for _ in range(4)]
    production.start_workers(2)
    eventually(lambda: sum(map(production.is_at_work, queued)) == 2)
    production.release()
    for job_id in queued:
        eventually(succeeded(production, job_id))
    assert len(production.pids()) == len(queued)
    assert len({production.owner_pid(job_id) for job_id in queued}) == 2


def test_each_lane_has_workers_of_its_own(production: Production) -> None:
    production.release()
    heavy, light = production.enqueue(), production.enqueue(lane=Lane.LIGHT)
    (worker,) = production.start_workers(lanes=[Lane.LIGHT, Lane.GPU])
    on_a_gpu = production.enqueue(lane=Lane.GPU)
    for job_id in (light, on_a_gpu):
        eventually(succeeded(production, job_id))
    assert production.state(heavy) == JobState.QUEUED
    assert stop(worker) == 0

    for_a_gpu = production.enqueue(lane=Lane.GPU)
    production.start_workers(lanes=[Lane.HEAVY])
    eventually(succeeded(production, heavy))
    assert production.state(for_a_gpu) == JobState.QUEUED
    assert len(production.pids()) == 3
