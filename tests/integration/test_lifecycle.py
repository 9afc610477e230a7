"""From claim to end: whatever a job's process does, its row says what became of it."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import delete
from sqlalchemy.orm import Session, sessionmaker

from siftline.dispatch import silent
from siftline.domain.jobs import JobState
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.models import Dataset, Job
from siftline.store.session import transaction
from siftline_workers.lifecycle import Supervisor, Watch
from tests.acceptance.programs import eventually, is_running
from tests.acceptance.sleepy_child import COMMAND, SECRET
from tests.conftest import PATIENCE_S
from tests.integration.job_steps import add_job, claim, read, states

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def supervisor(sessions: sessionmaker[Session], settings: Settings) -> Supervisor:
    return Supervisor(settings, sessions, "worker", silent, COMMAND)


@pytest.fixture
def add(sessions: sessionmaker[Session], tmp_path: Path) -> Callable[..., UUID]:
    return lambda **params: add_job(sessions, diary=str(tmp_path / "diary"), **params)


@pytest.fixture
def pids(tmp_path: Path) -> Callable[[], list[int]]:
    """The process of each attempt, as they wrote themselves down."""
    diary = tmp_path / "diary"
    return lambda: [int(line) for line in diary.read_text().splitlines()] if diary.exists() else []


class Background:
    """A supervisor at work in a thread."""

    def __init__(self, supervisor: Supervisor, job_id: UUID) -> None:
        self.stop = threading.Event()
        self.thread = threading.Thread(target=supervisor.run, args=(job_id, self.stop))
        self.thread.start()

    def join(self) -> None:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def run(supervisor: Supervisor) -> Iterator[Callable[[UUID], Background]]:
    running: list[Background] = []

    def start(job_id: UUID) -> Background:
        running.append(Background(supervisor, job_id))
        return running[-1]

    yield start
    for background in running:
        background.stop.set()
        background.join()


def finished(supervisor: Supervisor, sessions: sessionmaker[Session], job_id: UUID) -> Job:
    assert supervisor.run(job_id, threading.Event())
    return read(sessions, job_id)


def test_a_job_runs_in_a_process_of_its_own_and_succeeds(
    supervisor: Supervisor,
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    pids: Callable[[], list[int]],
) -> None:
    job = finished(supervisor, sessions, job_id := add(seconds=0.1))
    assert (job.state, job.result, job.progress, job.error) == ("succeeded", {"attempt": 1}, 1.0, None)
    assert states(sessions, job_id) == ["queued", "running", "succeeded"]
    assert not supervisor.run(job_id, threading.Event()), "a second delivery finds nothing to do"
    assert len(pids()) == 1


@on_sqlite
@pytest.mark.parametrize(
    ("does", "code"),
    [
        ("refuse", "unprocessable"),
        ("break", "internal-error"),
        ("need memory", "out-of-resources"),
        ("need disk", "out-of-resources"),
        ("forget to succeed", "internal-error"),
    ],
)
def test_a_job_that_fails_says_why_and_tells_no_secret(
    supervisor: Supervisor,
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    does: str,
    code: str,
) -> None:
    job = finished(supervisor, sessions, job_id := add(does=does))
    assert job.error is not None
    assert (job.state, job.error["code"]) == ("failed", code)
    assert SECRET not in str(job.error)
    assert "ValueError" not in str(job.error)
    assert states(sessions, job_id) == ["queued", "running", "failed"]


@on_sqlite
def test_a_process_that_dies_is_tried_again_and_then_given_up(
    sessions: sessionmaker[Session], settings: Settings, add: Callable[..., UUID]
) -> None:
    job_id = add(does="die")
    twice = settings.model_copy(update={"max_attempts": 2})
    supervisor = Supervisor(twice, sessions, "worker", silent, COMMAND)
    assert finished(supervisor, sessions, job_id).state == JobState.QUEUED
    job = finished(supervisor, sessions, job_id)
    assert job.error is not None
    assert (job.state, job.error["code"], job.attempt) == ("failed", "worker-lost", 2)
    with transaction(sessions) as session:
        assert "SIGKILL" in jobs.history(session, job_id)[-1].reason


@on_sqlite
@pytest.mark.parametrize("asked", [{"does": "sleep without a word"}, {"speed": 0}])
def test_a_process_that_stands_still_is_ended_and_says_where(
    sessions: sessionmaker[Session],
    settings: Settings,
    add: Callable[..., UUID],
    tmp_path: Path,
    asked: dict[str, object],
) -> None:
    # Some grace, because a busy machine takes a while to let it write where it stands.
    impatient = settings.model_copy(update={"job_silence_s": 0.5, "cancel_grace_s": 3.0})
    held = claim(sessions, add(seconds=60, **asked))
    with (tmp_path / "log").open("wb") as log:
        supervisor = Supervisor(impatient, sessions, "worker", silent, COMMAND, stderr=log)
        with supervisor.start(held.job_id, owner=held.owner, attempt=held.attempt) as child:
            eventually((tmp_path / "diary").exists)
            watch = Watch(supervisor, held, child, threading.Event())
            watch.until_it_ends()
    assert watch.how_it_ended() == "it made no progress for 0.5 s"
    assert " in work" in (tmp_path / "log").read_text(), "each thread's stack"


@on_sqlite
def test_progress_is_a_sign_of_life_and_its_end_is_not(
    sessions: sessionmaker[Session], settings: Settings, add: Callable[..., UUID]
) -> None:
    impatient = settings.model_copy(update={"job_silence_s": 6.0})  # no machine stands still for as long
    held = claim(sessions, add())
    supervisor = Supervisor(impatient, sessions, "worker", silent)
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
    ) as child:
        watch = Watch(supervisor, held, child, threading.Event())
        watching = threading.Thread(target=watch.until_it_ends)
        watching.start()
        for step in range(28):
            with transaction(sessions) as session:
                jobs.report(session, held, "working", step / 30)
            time.sleep(0.25)
        assert watching.is_alive()
        watching.join(PATIENCE_S)
    assert watch.stands_still


@on_sqlite
def test_cancelling_stops_a_running_job(
    run: Callable[[UUID], Background],
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    pids: Callable[[], list[int]],
) -> None:
    background = run(job_id := add(seconds=60))
    eventually(lambda: read(sessions, job_id).stage == "sleeping")
    with transaction(sessions) as session:
        assert jobs.request_cancel(session, job_id).state == JobState.CANCELLING
    background.join()
    assert states(sessions, job_id) == ["queued", "running", "cancelling", "cancelled"]
    assert not is_running(pids()[0])


@on_sqlite
def test_a_job_that_does_not_listen_is_killed(
    run: Callable[[UUID], Background],
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    pids: Callable[[], list[int]],
) -> None:
    background = run(job_id := add(does="sleep without a word", seconds=60))
    eventually(pids)
    with transaction(sessions) as session:
        jobs.request_cancel(session, job_id)
    background.join()
    assert read(sessions, job_id).state == JobState.CANCELLED
    assert not is_running(pids()[0])


@on_sqlite
def test_stopping_the_worker_gives_the_job_back_uncounted(
    run: Callable[[UUID], Background], sessions: sessionmaker[Session], add: Callable[..., UUID]
) -> None:
    background = run(job_id := add(seconds=60))
    eventually(lambda: read(sessions, job_id).stage == "sleeping")
    background.stop.set()
    background.join()
    job = read(sessions, job_id)
    assert (job.state, job.attempt, job.owner, job.lease_until) == ("queued", 0, None, None)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_the_lease_is_kept_while_the_job_runs(
    sessions: sessionmaker[Session], settings: Settings, add: Callable[..., UUID]
) -> None:
    settings = settings.model_copy(update={"lease_s": 12.0})  # renewed every four seconds
    supervisor = Supervisor(settings, sessions, "worker", silent, COMMAND)
    background = Background(supervisor, job_id := add(does="sleep without a word", seconds=600.0))
    try:
        first = eventually(lambda: read(sessions, job_id).lease_until)
        assert first is not None
        eventually(lambda: read(sessions, job_id).lease_until != first)
        renewed = read(sessions, job_id).lease_until
        assert renewed is not None
        assert (renewed - first).total_seconds() < settings.lease_s, "before it ran out"
    finally:
        background.stop.set()
        background.join()


@pytest.mark.parametrize("does", ["sleep", "sleep without a word"])
def test_a_worker_that_lost_its_job_stops_and_writes_nothing(
    run: Callable[[UUID], Background],
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    pids: Callable[[], list[int]],
    does: str,
) -> None:
    background = run(job_id := add(does=does, seconds=60))
    eventually(pids)
    job = read(sessions, job_id)
    assert job.owner is not None
    with transaction(sessions) as session:
        held = jobs.Claim(job_id, job.owner, job.attempt)
        jobs.give_up_or_requeue(session, held, "thought dead", max_attempts=5)
    claim(sessions, job_id, "somebody else")
    background.join()
    job = read(sessions, job_id)
    assert (job.state, job.owner, job.attempt) == ("running", "somebody else", 2)
    assert states(sessions, job_id) == ["queued", "running", "queued", "running"]
    assert not is_running(pids()[0])


@on_sqlite
def test_deleting_the_dataset_of_a_running_job_frees_the_worker(
    run: Callable[[UUID], Background],
    sessions: sessionmaker[Session],
    add: Callable[..., UUID],
    pids: Callable[[], list[int]],
) -> None:
    background = run(add(seconds=60))
    eventually(pids)
    with transaction(sessions) as session:
        session.execute(delete(Dataset))
    background.join()
    assert not is_running(pids()[0])
