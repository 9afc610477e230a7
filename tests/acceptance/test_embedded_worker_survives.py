"""The embedded mode's worker: killed or stopped, the next one takes up where it was.

Leases are long: on a busy machine a worker may come to renew a short one too late.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobKind
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.models import Job
from siftline.store.session import now, transaction
from tests.acceptance.programs import POLLER, ROOT, Programs, eventually, is_running, stop
from tests.integration.job_steps import add_dataset, add_job, read, states

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"lease_s": 600.0})


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    programs = Programs(tmp_path)
    yield programs
    programs.kill_all()
    print(programs.logs())  # noqa: T201 - pytest shows it when the test failed


@pytest.fixture
def job_id(sessions: sessionmaker[Session], programs: Programs) -> UUID:
    """A job that lasts until it is released: what is done to its worker is done in time."""
    diary, until = (str(programs.folder / name) for name in ("diary", "released"))
    return add_job(sessions, diary=diary, seconds=600.0, until=until)


def release(programs: Programs) -> None:
    (programs.folder / "released").touch()


def pid_of_attempt(programs: Programs, number: int) -> int:
    return int((programs.folder / "diary").read_text().splitlines()[number - 1])


@on_sqlite
def test_a_killed_worker_takes_its_job_down_and_the_next_one_finishes_it(
    sessions: sessionmaker[Session],
    settings: Settings,
    programs: Programs,
    job_id: UUID,
) -> None:
    worker = programs.start(settings, *POLLER)
    eventually(lambda: read(sessions, job_id).stage == "sleeping")
    worker.send_signal(signal.SIGKILL)
    eventually(lambda: not is_running(pid_of_attempt(programs, 1)))

    with transaction(sessions) as session:
        session.execute(update(Job).values(lease_until=now(session)))  # as if its time had run out
    release(programs)
    programs.start(settings, *POLLER)
    eventually(lambda: read(sessions, job_id).state == "succeeded")
    assert states(sessions, job_id) == ["queued", "running", "queued", "running", "succeeded"]


@on_sqlite
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_worker_gives_its_job_back_and_the_next_one_resumes_at_once(
    sessions: sessionmaker[Session],
    settings: Settings,
    programs: Programs,
    job_id: UUID,
    how: signal.Signals,
) -> None:
    worker = programs.start(settings, *POLLER)
    eventually(lambda: read(sessions, job_id).stage == "sleeping")
    assert stop(worker, with_signal=how) == 0
    job = read(sessions, job_id)
    assert (job.state, job.attempt) == ("queued", 0)

    release(programs)
    programs.start(settings, *POLLER)
    eventually(lambda: read(sessions, job_id).state == "succeeded")
    assert states(sessions, job_id) == ["queued", "running", "queued", "running", "succeeded"]


@on_sqlite
def test_short_work_does_not_wait_behind_a_training(
    sessions: sessionmaker[Session], settings: Settings, programs: Programs, tmp_path: Path
) -> None:
    diary = str(tmp_path / "diary")
    training = add_job(sessions, kind=JobKind.TRAIN, diary=diary, seconds=600)
    worker = programs.start(settings, *POLLER)
    eventually(lambda: read(sessions, training).stage == "sleeping")
    recuts = [add_job(sessions, kind=JobKind.RECUT, diary=diary, seconds=0.1) for _ in range(2)]
    waits = add_job(sessions, diary=diary, seconds=0.1)

    eventually(lambda: all(read(sessions, job_id).state == "succeeded" for job_id in recuts))
    assert read(sessions, training).state == "running"
    assert read(sessions, waits).state == "queued", "one heavy job at a time"
    assert stop(worker) == 0
    assert (read(sessions, training).state, read(sessions, training).attempt) == ("queued", 0)


@on_sqlite
def test_the_workers_log_names_the_request_that_asked_for_the_job(
    sessions: sessionmaker[Session], settings: Settings, programs: Programs, tmp_path: Path
) -> None:
    params = {"diary": str(tmp_path / "diary"), "does": "refuse"}
    dataset_id = add_dataset(sessions)
    with transaction(sessions) as session:
        job_id = jobs.create(session, dataset_id, JobKind.PURIFY, params, request_id="asked-here").id
    worker = programs.start(settings.model_copy(update={"log_format": "json"}), *POLLER)
    eventually(lambda: ", failed" in programs.logs())  # its supervisor's last word
    stop(worker)  # no line is half written
    lines = [json.loads(line) for line in programs.logs().splitlines()]
    ours = [line for line in lines if line.get("job_id") == str(job_id)]
    assert {line["request_id"] for line in ours} == {"asked-here"}
    assert len({line["process"] for line in ours}) == 2, "its supervisor and its own process"


@on_sqlite
def test_a_worker_goes_down_with_the_server_that_started_it(
    sessions: sessionmaker[Session], settings: Settings, programs: Programs, job_id: UUID
) -> None:
    starts_a_worker = (
        "import os, subprocess, sys;"
        f"subprocess.run([sys.executable, *{POLLER!r}, '--parent', str(os.getpid())])"
    )
    server = programs.start(settings, "-c", starts_a_worker)
    eventually(lambda: read(sessions, job_id).stage == "sleeping")
    server.kill()
    eventually(lambda: read(sessions, job_id).state == "queued")
    assert read(sessions, job_id).attempt == 0


def test_a_supervisor_never_loads_torch() -> None:
    code = (
        "import sys, siftline_workers.poller, siftline_workers.tasks, siftline_workers.child;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
