"""More images than a request waits for: a job, scored by a worker, that leaves no bytes behind."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.dispatch import silent
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.blobs import scoring_key
from siftline.store.blobs_local import LocalBlobs
from siftline.store.jobs import Claim
from siftline.store.models import JobScore
from siftline.store.session import reading, transaction
from siftline.sweeper import sweep
from siftline_workers.lifecycle import Supervisor
from siftline_workers.pipeline import score as pipeline
from siftline_workers.running import Cancelled, RunningJob
from tests.integration.api.conftest import File, is_problem, png, spool_is_empty, tarred, zipped
from tests.integration.detecting import Ready, add_detector
from tests.integration.job_steps import read

SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
MANY = 200


@pytest.fixture
def detector(sessions: sessionmaker[Session], tmp_path: Path) -> Ready:
    return add_detector(sessions, tmp_path / "artifacts")


def send(api: TestClient, detector: Ready, *files: File, **more: Any) -> Any:
    return api.post(f"/detectors/{detector.id}/score", files=[("files", file) for file in files], **more)


def images(count: int) -> list[File]:
    return [(f"{seed}.png", png(seed, (20, 20))) for seed in range(count)]


def work(sessions: sessionmaker[Session], settings: Settings, job_id: UUID) -> None:
    """What the job's process does, in this one."""
    with transaction(sessions) as session:
        job = jobs.claim(session, job_id, "me", 60.0)
        assert job is not None
    claim = Claim(job_id, "me", job.attempt)
    pipeline.run(RunningJob(job, claim, settings, sessions, threading.Event()))


def blobs_of(settings: Settings) -> list[str]:
    return [blob.key for blob in LocalBlobs(settings.blobs_dir).listed("scoring/")]


def test_two_hundred_images_become_a_job_whose_scores_are_those_of_each_image_alone(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], settings: Settings
) -> None:
    sent = [*images(MANY), ("bad.png", b"no image"), ("a.zip", zipped(("/etc/x", b"1")))]
    answer = send(api, detector, *sent)
    job = answer.json()["job"]
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/jobs/{job['id']}"
    assert (job["kind"], job["detector_id"]) == ("score", str(detector.id))
    assert spool_is_empty(settings)

    waiting = api.get(f"/jobs/{job['id']}/scores")
    assert is_problem(waiting, 409, "scores-not-ready")
    assert int(waiting.headers["Retry-After"]) >= 1
    work(sessions, settings, UUID(job["id"]))
    done = api.get(f"/jobs/{job['id']}").json()
    assert done["state"] == "succeeded"
    assert done["result"]["detector"]["id"] == str(detector.id)
    assert sum(done["result"]["counts"].values()) == MANY + 2
    assert done["result"]["counts"]["rejected"] == 2

    items = all_pages(api, job["id"], limit=90)
    assert [item["name"] for item in items] == [*(name for name, _ in images(MANY)), "bad.png", "/etc/x"]
    assert [item["code"] for item in items[MANY:]] == ["not-an-image", "unsafe-path"]
    for (name, data), item in list(zip(images(MANY), items, strict=False))[:: MANY // 5]:
        [alone] = send(api, detector, (name, data)).json()["items"]
        assert item == alone  # p-value, threshold, verdict and the last bit of the score, too


def all_pages(api: TestClient, job_id: str, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        page = api.get(f"/jobs/{job_id}/scores", params=query).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        query["cursor"] = page["next_cursor"]


@SQLITE
def test_a_real_worker_scores_a_job_without_torch_and_stands_back_for_the_api(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    job_id = UUID(send(api, detector, ("a.tar.gz", tarred(*images(70)))).json()["job"]["id"])
    program = tmp_path / "child.py"
    program.write_text(
        "import os, sys\n"
        "from siftline_workers import child\n"
        "code = child.main()\n"
        "assert 'torch' not in sys.modules\n"
        f"assert os.getpriority(os.PRIO_PROCESS, 0) == {os.getpriority(os.PRIO_PROCESS, 0) + 1}\n"
        "os._exit(code)\n"
    )
    behind = settings.model_copy(update={"worker_nice": 1})
    with (tmp_path / "log").open("w+b") as log:
        supervisor = Supervisor(behind, sessions, "worker", silent, (str(program),), log)
        supervisor.run(job_id, threading.Event())
    assert read(sessions, job_id).state == "succeeded", Path(log.name).read_text()
    assert len(all_pages(api, str(job_id), limit=1000)) == 70


@SQLITE
def test_what_an_earlier_attempt_scored_is_not_scored_again(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], settings: Settings
) -> None:
    job_id = UUID(send(api, detector, *images(80)).json()["job"]["id"])
    stopped = threading.Event()
    with transaction(sessions) as session:
        job = jobs.claim(session, job_id, "first", 60.0)
        assert job is not None
    first = RunningJob(job, Claim(job_id, "first", job.attempt), settings, sessions, stopped)
    report = first.report

    def report_once(stage: str, progress: float) -> None:
        if stage == pipeline.STAGE:
            stopped.set()  # SIGTERM comes after the first few images
        report(stage, progress)

    first.report = report_once  # type: ignore[method-assign]  # on purpose
    with pytest.raises(Cancelled):
        pipeline.run(first)
    before = {row.number: row.score for row in rows_of(sessions, job_id)}
    scored = {number: value for number, value in before.items() if value is not None}
    assert 0 < len(scored) < 80
    for number in scored:  # gone, so that looking at one again would fail
        LocalBlobs(settings.blobs_dir).delete(scoring_key(job_id, number))
    with transaction(sessions) as session:
        jobs.release(session, Claim(job_id, "first", job.attempt), "the worker is shutting down")
    work(sessions, settings, job_id)
    after = {row.number: row.score for row in rows_of(sessions, job_id)}
    assert None not in after.values()
    assert {number: after[number] for number in scored} == scored


def rows_of(sessions: sessionmaker[Session], job_id: UUID) -> list[JobScore]:
    with reading(sessions) as session:
        return list(session.scalars(select(JobScore).where(JobScore.job_id == job_id)))


def test_the_bytes_are_kept_until_the_job_is_over_and_no_longer(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], settings: Settings
) -> None:
    ids = [UUID(send(api, detector, *images(65)).json()["job"]["id"]) for _ in range(3)]
    sweep(sessions, settings, silent, LocalBlobs(settings.blobs_dir))
    assert len(blobs_of(settings)) == 3 * 65
    work(sessions, settings, ids[0])
    assert api.post(f"/jobs/{ids[1]}/cancel").json()["state"] == "cancelled"
    sweep(sessions, settings, silent, LocalBlobs(settings.blobs_dir))
    assert {key.split("/")[1] for key in blobs_of(settings)} == {str(ids[2])}
    assert is_problem(api.get(f"/jobs/{ids[1]}/scores"), 409, "scores-not-ready")


@SQLITE
def test_bytes_of_a_request_that_died_are_cleared_when_they_are_old(
    sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    blobs = LocalBlobs(settings.blobs_dir)
    on_its_way, left_behind = uuid7(), UUID("01800000-0000-7000-8000-000000000000")  # April 2022
    for job_id in (on_its_way, left_behind):
        file = tmp_path / str(job_id)
        file.write_bytes(b"x")
        blobs.put(scoring_key(job_id, 1), file)
    sweep(sessions, settings, silent, LocalBlobs(settings.blobs_dir))
    assert blobs_of(settings) == [scoring_key(on_its_way, 1)]


@SQLITE
def test_the_same_large_request_sent_again_is_one_job(
    api: TestClient, detector: Ready, settings: Settings
) -> None:
    key = {"Idempotency-Key": "build-7"}
    first, again = (send(api, detector, *images(66), headers=key) for _ in range(2))
    assert first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(blobs_of(settings)) == 66
    other = send(api, detector, *images(67), headers=key)
    assert is_problem(other, 422, "idempotency-key-reused")


@SQLITE
def test_a_request_has_limits_that_are_told(
    api_with: Callable[..., TestClient], detector: Ready, sessions: sessionmaker[Session]
) -> None:
    api = api_with(score_images=3, score_job_images=5)
    assert send(api, detector, *images(3)).status_code == 200
    assert send(api, detector, *images(5)).status_code == 202
    assert is_problem(send(api, detector, *images(6)), 413, "too-large")
    assert is_problem(send(api, detector, ("a.zip", zipped(*images(6)))), 413, "too-large")
    drawn = send(api, detector, *images(4), params={"explain": "map"})
    assert is_problem(drawn, 422, "unprocessable")


@SQLITE
def test_only_scoring_jobs_have_scores_and_a_detector_at_work_is_not_deleted(
    api: TestClient, detector: Ready, sessions: sessionmaker[Session], settings: Settings
) -> None:
    training = api.get(f"/detectors/{detector.id}").json()["job"]["id"]
    assert is_problem(api.get(f"/jobs/{training}/scores"), 404, "not-found")
    assert is_problem(api.get(f"/jobs/{uuid7()}/scores"), 404, "not-found")
    job_id = send(api, detector, *images(65)).json()["job"]["id"]
    assert is_problem(api.delete(f"/detectors/{detector.id}"), 409, "detector-busy")
    work(sessions, settings, UUID(job_id))
    assert api.delete(f"/detectors/{detector.id}").status_code == 204
    assert len(api.get(f"/jobs/{job_id}/scores").json()["items"]) == 65  # they outlive the detector
