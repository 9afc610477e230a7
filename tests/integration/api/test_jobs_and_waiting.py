"""Jobs over the API: looked at, listened to, waited for, cancelled."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import OutOfResources
from siftline.store import jobs
from siftline.store.jobs import Claim
from siftline.store.session import transaction
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import is_problem, made, png
from tests.integration.api.test_answers import write_version

Sessions = sessionmaker[Session]


@pytest.fixture
def created(api: TestClient) -> dict[str, Any]:
    return made(api, ("a.png", png(1)))


def claimed(session: Session, job_id: str) -> Claim:
    job = jobs.claim(session, UUID(job_id), "worker", lease_s=60)
    assert job is not None
    return Claim(job.id, "worker", job.attempt)


def failed(sessions: Sessions, job_id: str) -> None:
    """Taken and failed in one transaction: whoever listens sees one change, however the threads fall."""
    with transaction(sessions) as session:
        jobs.fail(session, claimed(session, job_id), OutOfResources("Needs 9 GB."))


@contextmanager
def after_the_first_look(work: Callable[[], object]) -> Iterator[None]:
    """Does `work` in another thread as soon as the service has read the job for whoever waits."""
    looked = threading.Event()

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "FROM jobs" in statement:
            looked.set()

    def work_then() -> None:
        assert looked.wait(PATIENCE_S)
        work()

    event.listen(Engine, "after_cursor_execute", hear)  # the service has an engine of its own
    try:
        with ThreadPoolExecutor(1) as other:
            done = other.submit(work_then)
            yield
            done.result()
    finally:
        event.remove(Engine, "after_cursor_execute", hear)


def test_a_running_job_tells_stage_progress_and_time_left(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    with transaction(sessions) as session:
        held = claimed(session, created["job"]["id"])
        jobs.report(session, held, "extract", 0.25)
        started = datetime.fromtimestamp(time.time() - 30, UTC)
        jobs.get(session, held.job_id).started_at = started
    body = api.get(f"/jobs/{held.job_id}").json()
    assert (body["state"], body["stage"], body["progress"], body["attempt"]) == (
        "running",
        "extract",
        0.25,
        1,
    )
    assert 80 < body["eta_s"] < 120


def test_a_failed_job_carries_its_problem(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    failed(sessions, created["job"]["id"])
    error = api.get(f"/jobs/{created['job']['id']}").json()["error"]
    assert (error["code"], error["detail"]) == ("out-of-resources", "Needs 9 GB.")


def test_jobs_are_listed_by_dataset_and_state(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    other = made(api, ("b.png", png(2)))
    failed(sessions, other["job"]["id"])

    def found(**params: Any) -> list[str]:
        return [job["id"] for job in api.get("/jobs", params=params).json()["items"]]

    assert found() == [other["job"]["id"], created["job"]["id"]]
    assert found(dataset_id=created["dataset"]["id"]) == [created["job"]["id"]]
    assert found(state="failed") == [other["job"]["id"]]
    assert found(state=["failed", "queued"]) == found()
    page = api.get("/jobs", params={"limit": 1}).json()
    assert found(cursor=page["next_cursor"]) == [created["job"]["id"]]


def test_cancelling_a_queued_job_ends_it_and_cancelling_a_finished_one_is_a_conflict(
    api: TestClient, created: dict[str, Any]
) -> None:
    path = f"/jobs/{created['job']['id']}/cancel"
    first = api.post(path)
    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    assert is_problem(api.post(path), 409, "job-state-conflict")
    assert is_problem(api.post(f"/jobs/{uuid4()}/cancel"), 404, "not-found")


def test_cancelling_a_running_job_asks_its_worker(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    with transaction(sessions) as session:
        claimed(session, created["job"]["id"])
    answer = api.post(f"/jobs/{created['job']['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelling")


def test_before_it_exists_the_split_is_a_conflict_with_the_job_in_it(
    api: TestClient, created: dict[str, Any]
) -> None:
    answer = api.get(f"/datasets/{created['dataset']['id']}/purified")
    assert is_problem(answer, 409, "purification-not-ready")
    assert answer.json()["job"]["id"] == created["job"]["id"]
    assert int(answer.headers["retry-after"]) > 0


def test_waiting_ends_when_the_version_is_there(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    dataset_id = created["dataset"]["id"]
    image_id = api.get(f"/datasets/{dataset_id}/images").json()["items"][0]["id"]
    with after_the_first_look(lambda: write_version(sessions, dataset_id, [image_id], suspects=0)):
        answer = api.get(f"/datasets/{dataset_id}/purified", params={"wait": 60})
    assert answer.status_code == 200
    assert answer.json()["items"][0]["image_id"] == image_id


def test_waiting_ends_when_the_job_fails(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    with after_the_first_look(lambda: failed(sessions, created["job"]["id"])):
        answer = api.get(f"/datasets/{created['dataset']['id']}/purified", params={"wait": 60})
    assert is_problem(answer, 409, "purification-not-ready")
    assert answer.json()["job"]["error"]["code"] == "out-of-resources"
    assert "retry-after" not in answer.headers


def test_waiting_ends_when_the_time_is_up(api: TestClient, created: dict[str, Any]) -> None:
    answer = api.get(f"/datasets/{created['dataset']['id']}/purified", params={"wait": 0.3})
    assert is_problem(answer, 409, "purification-not-ready")


def test_nobody_waits_for_a_purification_that_was_not_asked_for(api: TestClient) -> None:
    body = made(api, ("a.png", png(1)), data={"options": '{"purify": false}'})
    answer = api.get(f"/datasets/{body['dataset']['id']}/purified", params={"wait": 60})
    assert is_problem(answer, 409, "purification-not-ready")
    assert answer.json()["job"] is None


def test_many_who_wait_keep_nobody_else_waiting(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    """More waiters than threads (40) and connections (15): a look costs neither while it sleeps."""
    dataset_id = created["dataset"]["id"]
    image_id = api.get(f"/datasets/{dataset_id}/images").json()["items"][0]["id"]
    with ThreadPoolExecutor(60) as crowd:
        waiting = [
            crowd.submit(api.get, f"/datasets/{dataset_id}/purified", params={"wait": 60}) for _ in range(60)
        ]
        assert api.get(f"/datasets/{dataset_id}").status_code == 200
        assert not any(w.done() for w in waiting)
        write_version(sessions, dataset_id, [image_id], suspects=0)
        assert {w.result().status_code for w in waiting} == {200}


def test_another_run_takes_other_options_and_keeps_the_rest(api: TestClient, created: dict[str, Any]) -> None:
    path = f"/datasets/{created['dataset']['id']}/purifications"
    answer = api.post(path, json={"seed": 5})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/jobs/{answer.json()['id']}"
    assert answer.json()["id"] != created["job"]["id"]
    assert api.post(path).status_code == 202
    assert is_problem(api.post(path, json={"seed": -1}), 422, "validation-error")
    assert is_problem(api.post(path, json={"backbone": "\x00"}), 422, "validation-error")
    assert is_problem(api.post(f"/datasets/{uuid4()}/purifications"), 404, "not-found")


def test_a_run_is_given_the_options_of_the_dataset_and_its_own(api: TestClient, sessions: Sessions) -> None:
    body = made(api, ("a.png", png(1)), data={"options": '{"subsets": 7, "seed": 1}'})
    job = api.post(f"/datasets/{body['dataset']['id']}/purifications", json={"seed": 5}).json()
    with transaction(sessions) as session:
        params = jobs.get(session, UUID(job["id"])).params
    assert (params["subsets"], params["seed"], params["backbone"]) == (7, 5, "lite")
    assert "purify" not in params


def test_an_empty_dataset_cannot_be_purified(api: TestClient) -> None:
    body = made(api, ("a.png", b"x"))
    answer = api.post(f"/datasets/{body['dataset']['id']}/purifications")
    assert is_problem(answer, 422, "unprocessable")


def events_of(api: TestClient, job_id: str, **headers: str) -> list[tuple[str, dict[str, Any]]]:
    """(id, data) of every event until the stream ends."""
    with api.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(answer.iter_text()).strip().split("\n\n")
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks if block]
    return [(event["id"], json.loads(event["data"])) for event in events]


def test_a_listener_hears_every_change_until_the_job_is_finished(
    api: TestClient, sessions: Sessions, created: dict[str, Any]
) -> None:
    job_id = created["job"]["id"]
    with after_the_first_look(lambda: failed(sessions, job_id)):
        events = events_of(api, job_id)
    assert [data["state"] for _, data in events] == ["queued", "failed"]
    missed = events_of(api, job_id, **{"Last-Event-ID": events[0][0]})
    assert [data["state"] for _, data in missed] == ["failed"]
    over = api.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": events[-1][0]})
    assert over.status_code == 204
    assert is_problem(api.get(f"/jobs/{uuid4()}/events"), 404, "not-found")
