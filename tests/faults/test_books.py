"""The bench's books: what they say of a sound service, and that they notice each thing that may go wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker

from siftline.main import create_app
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.blobs import image_key
from siftline.store.blobs_open import open_blobs
from siftline.store.jobs import Claim
from siftline.store.session import transaction
from tests.faults import invariants
from tests.faults.bench import collect_now
from tests.faults.invariants import Database
from tests.faults.traffic import Ledger, picture

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@dataclass
class Service:
    """A service with one dataset of two images, whose job has been through one worker's hands."""

    database: Database
    ledger: Ledger
    settings: Settings
    dataset_id: str
    job_id: str

    def books(self) -> dict[str, list[str]]:
        return {
            name: found
            for name, found in invariants.books(self.database, self.ledger, self.blobs).items()
            if found
        }

    @property
    def blobs(self) -> Path:
        return self.settings.blobs_dir

    def run(self, statement: str) -> None:
        with psycopg.connect(self.database.dsn) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def service(settings: Settings, sessions: sessionmaker[Session], database_url: str) -> Any:
    database, ledger = Database(database_url), Ledger()
    database.install_witness()
    with TestClient(create_app(settings), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)) as api:
        files = [("files", (f"{seed}.png", picture(seed))) for seed in range(2)]
        body = api.post("/datasets", data={"name": "line 0"}, files=files).json()
        receipts = {receipt["sha256"] for receipt in body["receipts"]}
    job_id, dataset_id = body["job"]["id"], body["dataset"]["id"]
    ledger.tried.add("line 0")
    ledger.datasets[dataset_id] = receipts
    ledger.jobs[job_id] = dataset_id
    ledger.scores["d", "sha"] = {0.5}
    with transaction(sessions) as session:
        job = jobs.claim(session, UUID(job_id), "me", 60.0)
        assert job is not None
        jobs.succeed(session, Claim(job.id, "me", job.attempt), {})
    yield Service(database, ledger, settings, dataset_id, job_id)
    database.remove_witness()


def test_a_sound_service_has_books_without_a_complaint(service: Service) -> None:
    assert service.books() == {}
    assert "0 blobs" in collect_now(service.settings)


def lose_a_blob(service: Service) -> None:
    sha256 = next(iter(service.ledger.datasets[service.dataset_id]))
    open_blobs(service.settings).delete(image_key(UUID(service.dataset_id), sha256))


def spoil_a_blob(service: Service) -> None:
    next(path for path in service.blobs.rglob("*") if path.is_file()).write_bytes(b"other")


def leave_a_blob(service: Service) -> None:
    (service.blobs / "datasets" / service.dataset_id / ("0" * 64)).write_bytes(b"nobody's")


DAMAGE: list[tuple[Callable[[Service], None], str]] = [
    (lose_a_blob, "every row has its bytes"),
    (spoil_a_blob, "every row has its bytes"),
    (leave_a_blob, "nothing orphaned after collection"),
    (
        lambda s: s.run("DELETE FROM images WHERE id = (SELECT id FROM images LIMIT 1)"),
        "no image lost or doubled",
    ),
    (lambda s: s.run("UPDATE jobs SET state = 'running'"), "every 202 ended"),
    (lambda s: s.run("UPDATE jobs SET owner = 'another'"), "one owner at any time"),
    (lambda s: s.ledger.jobs.update(unknown="dataset"), "every 202 ended"),
    (lambda s: s.ledger.scores["d", "sha"].add(0.6), "one score an image"),
]


@pytest.mark.parametrize(("damage", "noticed"), DAMAGE)
def test_each_damage_is_noticed(service: Service, damage: Callable[[Service], None], noticed: str) -> None:
    damage(service)
    assert noticed in service.books()
