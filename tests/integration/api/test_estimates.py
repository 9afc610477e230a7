"""What a job will need is told before it runs, and refused with numbers where nobody has room."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.jobs import JobKind, JobState, Usage
from siftline.services import estimates
from siftline.settings import GIB, MIB
from siftline.store import jobs, workers
from siftline.store.jobs import Claim
from siftline.store.models import Image, Job
from siftline.store.session import now, reading, transaction
from siftline.store.workers import Capacity
from tests.integration.api.conftest import is_problem, made, png
from tests.integration.job_steps import add_dataset

Start = Callable[..., TestClient]
PATIENT_S = 3600.0
"""A lease so long that no worker of a test falls silent, however slow the machine."""


def beat(sessions: sessionmaker[Session], name: str, **has: Any) -> None:
    with transaction(sessions) as session:
        workers.beat(session, name, Capacity(**has))


def add_images(sessions: sessionmaker[Session], dataset_id: UUID, count: int, width: int = 100) -> None:
    with transaction(sessions) as session:
        common: dict[str, Any] = {"mode": "L", "format": "PNG", "bytes": 1, "created_at": now(session)}
        for number in range(count):
            image = Image(id=uuid7(), dataset_id=dataset_id, name="i", sha256=f"{number:064x}", **common)
            image.width, image.height = width, 100
            session.add(image)


def did(sessions: sessionmaker[Session], dataset_id: UUID, seconds: float, peak_bytes: int) -> None:
    """A purification like one that is asked for now has taken so much."""
    with transaction(sessions) as session:
        estimate = estimates.of_purification(session, dataset_id, "lite")
        job_id = jobs.create(session, dataset_id, JobKind.PURIFY, {}, estimate=estimate).id
        jobs.claim(session, job_id, "w:1", 60)
        jobs.succeed(session, Claim(job_id, "w:1", 1), {}, Usage(seconds, peak_bytes))


def test_without_experience_the_measured_constants_count_tiles(sessions: sessionmaker[Session]) -> None:
    square, wide = add_dataset(sessions), add_dataset(sessions)
    add_images(sessions, square, 20)
    add_images(sessions, wide, 20, width=500)  # five tiles each
    with reading(sessions) as session:
        one, five = (estimates.of_purification(session, of, "lite") for of in (square, wide))
        unknown = estimates.of_purification(session, square, "timm:resnet18")
    assert (one.units, five.units, one.basis) == (20, 100, "measured constants")
    assert one.seconds is not None
    assert five.seconds is not None
    assert five.seconds - one.seconds == pytest.approx(80 * 0.055)
    assert one.disk_bytes == 20 * 2 * 256 * 472 * 2
    assert (unknown.seconds, unknown.memory_bytes, unknown.disk_bytes) == (None, None, None)
    assert one.memory_bytes == 800 * MIB + 20 * 310_000


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_no_memory_is_claimed_of_sets_far_larger_than_any_measured(sessions: sessionmaker[Session]) -> None:
    large = add_dataset(sessions)
    add_images(sessions, large, 41, width=10_000)  # a hundred tiles each
    with reading(sessions) as session:
        found = estimates.of_purification(session, large, "lite")
    assert found.units == 4100
    assert found.memory_bytes is None
    assert found.seconds is not None


def test_jobs_that_were_done_are_learned_from_unless_they_were_small(sessions: sessionmaker[Session]) -> None:
    small, medium, large = (add_dataset(sessions) for _ in range(3))
    for dataset_id, count in ((small, 10), (medium, 20), (large, 50)):
        add_images(sessions, dataset_id, count)
    did(sessions, small, seconds=1000.0, peak_bytes=850 * MIB)
    with reading(sessions) as session:
        same, twice, much_more = (
            estimates.of_purification(session, of, "lite") for of in (small, medium, large)
        )
    assert (same.seconds, same.memory_bytes) == (1000.0, 850 * MIB)
    assert (twice.seconds, twice.memory_bytes) == (2000.0, 900 * MIB), "what it starts with does not grow"
    assert twice.basis == "an earlier job like it"
    assert much_more.basis == "measured constants"


def test_a_job_that_fits_nowhere_is_refused_with_numbers(
    api_with: Start, sessions: sessionmaker[Session]
) -> None:
    api = api_with(lease_s=PATIENT_S)
    beat(sessions, "tiny", memory_bytes=100 * MIB, disk_free_bytes=GIB)
    body = made(api, ("a.png", png(1)), ("b.png", png(2)))
    assert (body["dataset"]["images"], body["job"]["state"]) == (2, "failed"), "what was sent is in"
    assert body["job"]["error"]["code"] == "does-not-fit"
    again = f"/datasets/{body['dataset']['id']}/purifications"
    answer = api.post(again, json={})
    assert is_problem(answer, 422, "does-not-fit")
    assert "0.8 GiB" in answer.json()["detail"]
    assert "0.1 GiB" in answer.json()["detail"]

    beat(sessions, "without disk", memory_bytes=8 * GIB, disk_free_bytes=1000)
    assert is_problem(api.post(again, json={}), 507, "insufficient-storage")

    beat(sessions, "large", memory_bytes=8 * GIB, disk_free_bytes=GIB)
    job = api.post(again, json={}).json()
    assert job["state"] == "queued"
    assert job["estimate"] == {
        "seconds": pytest.approx(10.11),
        "memory_bytes": 800 * MIB + 2 * 310_000,
        "disk_bytes": 2 * 2 * 256 * 472 * 2,
        "basis": "measured constants",
    }


def test_the_rows_of_a_refused_job_say_how_it_went(api_with: Start, sessions: sessionmaker[Session]) -> None:
    api = api_with(lease_s=PATIENT_S)
    beat(sessions, "tiny", memory_bytes=100 * MIB)
    job_id = UUID(made(api, ("a.png", png(1)))["job"]["id"])
    with reading(sessions) as session:
        moves = [(move.state, move.reason) for move in jobs.history(session, job_id)]
        job = session.get_one(Job, job_id)
    assert moves == [(JobState.QUEUED, "created"), (JobState.FAILED, "does-not-fit")]
    assert job.finished_at is not None
