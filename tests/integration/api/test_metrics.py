"""`/metrics`: what Prometheus reads."""

import logging
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobState, Lane
from siftline.metrics import JobTable
from siftline.settings import Settings
from siftline.store import workers
from siftline.store.session import transaction
from siftline.store.workers import Capacity
from tests.integration.api.conftest import is_problem
from tests.integration.job_steps import bring_to

Labels = dict[str, str]


def figures(api: TestClient) -> dict[str, list[tuple[Labels, float]]]:
    answer = api.get("/metrics")
    assert answer.status_code == 200, answer.text
    found: dict[str, list[tuple[Labels, float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def test_requests_are_counted_by_their_route_and_never_by_what_callers_make_up(api: TestClient) -> None:
    for path in ("/datasets", "/datasets/0", "/datasets/1", "/made-up/1", "/made-up/2"):
        api.get(path)
    counted = {
        (labels["route"], labels["status"]): value
        for labels, value in figures(api)["siftline_requests_total"]
        if labels["method"] == "GET"
    }
    assert counted == {("/datasets", "200"): 1, ("/datasets/{dataset_id}", "422"): 2, ("none", "404"): 2}


def test_the_job_table_is_told(api_with: Callable[..., TestClient], sessions: sessionmaker[Session]) -> None:
    api = api_with(lease_s=3600.0)  # however slow the machine, no worker falls silent
    bring_to(sessions, JobState.QUEUED)
    bring_to(sessions, JobState.RUNNING)
    with transaction(sessions) as session:
        workers.beat(session, "w", Capacity(lanes=(Lane.LIGHT,)))
    found = figures(api)
    assert ({"kind": "purify", "state": "queued"}, 1) in found["siftline_jobs"]
    assert ({"kind": "purify", "stage": "starting"}, 1) in found["siftline_jobs_running"]
    assert ({"lane": "heavy"}, 1) in found["siftline_queue_jobs"]
    assert [labels for labels, _ in found["siftline_jobs_still_seconds"]] == [{"kind": "purify"}]
    assert found["siftline_leases_held"] == [({}, 1)]
    assert ({"lane": "light"}, 1) in found["siftline_workers"]
    assert ({"lane": "heavy"}, 0) in found["siftline_workers"]
    assert found["siftline_database_up"] == [({}, 1)]
    assert found["process_resident_memory_bytes"][0][1] > 1e7
    assert found["siftline_scoring_waiting_images"] == [({}, 0)]


def test_jobs_that_ended_are_counted_once_a_minute_and_others_each_time(
    sessions: sessionmaker[Session],
) -> None:
    at, registry = 0.0, CollectorRegistry()
    JobTable(registry, sessions, lease_s=3600.0, clock=lambda: at)

    def jobs_in(state: str) -> float | None:
        return registry.get_sample_value("siftline_jobs", {"kind": "purify", "state": state})

    bring_to(sessions, JobState.SUCCEEDED)
    bring_to(sessions, JobState.QUEUED)
    assert (jobs_in("succeeded"), jobs_in("queued")) == (1, 1)
    bring_to(sessions, JobState.SUCCEEDED)
    bring_to(sessions, JobState.QUEUED)
    assert (jobs_in("succeeded"), jobs_in("queued")) == (1, 2)
    at = 61.0
    assert (jobs_in("succeeded"), jobs_in("queued")) == (2, 2)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_figures_are_for_those_who_run_the_installation(
    api_with: Callable[..., TestClient], settings: Settings
) -> None:
    api = api_with(api_key=SecretStr("the owner's"))
    owner = {"X-API-Key": "the owner's"}
    assert is_problem(api.get("/metrics"), 401, "unauthorized")
    assert api.get("/metrics", headers=owner).status_code == 200
    for workspace, status in (("default", 200), ("others", 403)):
        new = {"name": workspace, "role": "viewer", "workspace": workspace}
        made = api.post("/keys", json=new, headers=owner)
        assert made.status_code == 201, made.text
        answer = api.get("/metrics", headers={"X-API-Key": made.json()["key"]})
        assert answer.status_code == status


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_request_is_logged_with_its_id_and_no_line_is_the_senders(
    api: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "siftline.api.frame"):
        api.get("/made-up%0A2026 INFO forged", headers={"X-Request-ID": "mine"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "siftline.api.frame"]
    assert line.startswith("GET /made-up%0A2026%20INFO%20forged: 404 in ")
