"""Is it gone? What was made of a deleted dataset goes with it; what another one has as well stays."""

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline import caches
from siftline.dispatch import silent
from siftline.settings import Settings
from siftline.store import idempotency, work
from siftline.store.session import reading
from siftline.store.work import Use
from siftline_workers.lifecycle import Supervisor
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.tending import tending
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import made, open_client, png
from tests.integration.api.walking import bearer, make_key

NETWORKS = ("one", "one-of-another-tone")
OWNER = bearer("the owner's")


@pytest.fixture
def api(settings: Settings) -> TestClient:
    return open_client(settings.model_copy(update={"api_key": SecretStr("the owner's")}))


def made_of(settings: Settings, dataset_id: UUID, *seeds: int) -> Callable[[], set[str]]:
    """Features and pieces of work as a job leaves them; what of them is there."""
    cache = FeatureCache(settings.features_dir)
    for seed in seeds:
        for network in NETWORKS:
            cache.save(network, sha256(png(seed)).hexdigest(), np.ones((2, 2, 4), np.float16))
    for name, use in (("basis", Use.BASIS), ("training", Use.JOB)):
        folder = settings.work_dir / f"{name}-{seeds}"
        work.note(folder, use, dataset_id)
        (folder / "piece.npz").write_bytes(b"rows of its images")

    def there() -> set[str]:
        kept = {
            str(seed) for seed in range(9) for n in NETWORKS if cache.has(n, sha256(png(seed)).hexdigest())
        }
        # os.walk, because rglob stumbles over a folder that goes while it looks.
        found = os.walk(settings.work_dir)
        return kept | {Path(folder).name for folder, _, names in found if "piece.npz" in names}

    return there


def files_of(settings: Settings, dataset_id: str) -> list[Path]:
    return [path for path in settings.blobs_dir.rglob("*") if dataset_id in str(path) and path.is_file()]


def test_a_deleted_dataset_leaves_only_what_another_one_has_too(
    api: TestClient, sessions: sessionmaker[Session], settings: Settings
) -> None:
    options = {"options": '{"purify": false}'}
    with api:
        theirs = bearer(make_key(api, "their admin", "admin", "theirs", headers=OWNER))
        ours = made(
            *(api, ("a.png", png(1)), ("both.png", png(2))),
            data=options,
            headers=OWNER | {"Idempotency-Key": "made-with"},
        )["dataset"]["id"]
        made(api, ("b.png", png(2)), data=options, headers=theirs)
        there = made_of(settings, UUID(ours), 1, 2)
        shared = settings.work_dir / "basis-(1, 2)"
        assert there() == {"1", "2", "basis-(1, 2)", "training-(1, 2)"}
        assert files_of(settings, ours)

        assert api.delete(f"/datasets/{ours}", headers=OWNER).status_code == 204
        assert there() == {"2"}, "the image that another workspace has as well keeps its features"
        assert not shared.exists()
        assert files_of(settings, ours) == []
    with reading(sessions) as session:
        assert idempotency.find(session, "made-with", "POST /datasets") is None, "it names the files"


def test_a_worker_elsewhere_removes_what_was_deleted_when_it_tends_its_caches(
    api: TestClient, sessions: sessionmaker[Session], settings: Settings, tmp_path: Path
) -> None:
    elsewhere = settings.model_copy(update={"data_dir": tmp_path / "of-a-worker"})
    with api:
        dataset_id = made(api, ("a.png", png(1)), data={"options": '{"purify": false}'}, headers=OWNER)[
            "dataset"
        ]["id"]
        there = made_of(elsewhere, UUID(dataset_id), 1)
        gone = made_of(elsewhere, uuid7(), 5)
        network = elsewhere.work_dir / "network"
        network.mkdir()
        (network / "piece.npz").write_bytes(b"nobody's")
        mine = {"1", "basis-(1,)", "training-(1,)", "network"}
        assert there() == mine | {"5", "basis-(5,)", "training-(5,)"} == gone()

        counted = caches.collect(sessions, elsewhere, dry_run=True)
        assert (counted["features"].count, counted["work"].count) == (2, 2)
        assert caches.collect(sessions, elsewhere) == counted
        assert there() == mine
        assert api.delete(f"/datasets/{dataset_id}", headers=OWNER).status_code == 204
        often = elsewhere.model_copy(update={"gc_s": 0.05})
        with tending(Supervisor(often, sessions, "worker", silent)):
            deadline = time.monotonic() + PATIENCE_S
            while there() != {"network"}:
                assert time.monotonic() < deadline
                time.sleep(0.05)
