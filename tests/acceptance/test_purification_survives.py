"""The real job on real parts: killed in stage after stage of a production deployment it ends with the same
answer as undisturbed on a laptop.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageFilter

from siftline.domain.jobs import JobState
from siftline.main import create_app
from siftline.settings import Settings
from siftline_workers.pipeline.purify import SHARES
from tests.acceptance.programs import Program, Programs, eventually
from tests.conftest import PATIENCE_S
from tests.networks import Lend

POLLER = ("-m", "siftline_workers.poller")
CELERY = (
    *("-m", "celery", "-A", "siftline_workers.celery_app", "worker", "--pool=threads", "-c", "1"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat"),
)
IMAGES, SCRATCHED = 60, 5
LONG_S = 3 * PATIENCE_S
KILLED_IN = ("extract", "neighbours", "funad")


def texture(folder: Path, seed: int) -> Path:
    """A brushed surface; the first few have a scratch."""
    noise = np.random.default_rng(seed).normal(128, 40, (96, 96))
    surface = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(2))
    if seed < SCRATCHED:
        for step in range(40):
            surface.paste(245, (20 + step, 30 + seed * 5 + step // 2, 24 + step, 34 + seed * 5 + step // 2))
    path = folder / f"{(seed * 37) % IMAGES:03d}.png"
    surface.save(path)
    return path


class Line:
    """A dataset in a running deployment."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.programs = settings, Programs(folder)

    def __enter__(self) -> Self:
        # Who asks must be on loopback: there is no key.
        app, caller = create_app(self.settings), ("127.0.0.1", 50000)
        self.api = TestClient(app, base_url="http://127.0.0.1", client=caller).__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.programs.kill_all()
        self.api.__exit__()

    def start_worker(self) -> Program:
        return self.programs.start(self.settings, *(CELERY if self.settings.redis_url else POLLER))

    def upload(self, folder: Path) -> dict[str, Any]:
        paths = [texture(folder, seed) for seed in range(IMAGES)]
        files = [("files", (path.name, path.read_bytes())) for path in paths]
        answer = self.api.post("/datasets", data={"name": "surfaces"}, files=files)
        assert answer.status_code == 202, answer.text
        body: dict[str, Any] = answer.json()
        assert {receipt["status"] for receipt in body["receipts"]} == {"accepted"}
        return body

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.api.get(f"/jobs/{job_id}").json()
        assert job["state"] != JobState.FAILED, f"{job}\n{self.programs.logs()}"
        return job

    def is_done(self, job_id: str) -> Callable[[], bool]:
        return lambda: self.job(job_id)["state"] == JobState.SUCCEEDED

    def answer(self, dataset_id: str) -> list[tuple[Any, ...]]:
        """All that a version says of each image, by content: ids differ from dataset to dataset."""
        body = self.api.get(f"/datasets/{dataset_id}/purified", params={"limit": 200}).json()
        told = ("sha256", "rank", "score", "p_anomalous", "interval", "verdict", "signals", "confidence")
        assert len(body["items"]) == IMAGES
        return [tuple(item[name] for name in told) for item in body["items"]]

    def kill_in(self, stage: str, worker: Program, job_id: str) -> tuple[Program, bool]:
        """`kill -9` of the worker once the job is in `stage` or later; whether that was in time."""
        later = list(SHARES)[list(SHARES).index(stage) :]

        def seen() -> str | None:
            job = self.job(job_id)
            return job["stage"] if job["stage"] in later or job["state"] == JobState.SUCCEEDED else None

        hit = eventually(seen, within_s=LONG_S)
        if self.job(job_id)["state"] == JobState.SUCCEEDED:
            return worker, False
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
        return self.start_worker(), hit == stage


@pytest.fixture
def production(settings: Settings, redis_url: str, lend_network: Lend, tmp_path: Path) -> Iterator[Line]:
    """Celery and a sweeper on PostgreSQL and Redis."""
    (tmp_path / "production").mkdir()
    lend_network(settings.data_dir)
    changes = {"redis_url": redis_url, "max_attempts": 20}
    with Line(settings.model_copy(update=changes), tmp_path / "production") as line:
        line.programs.start(line.settings, "-m", "siftline", "sweeper")
        yield line


@pytest.fixture
def laptop(settings: Settings, sqlite_template: Path, lend_network: Lend, tmp_path: Path) -> Iterator[Line]:
    """A poller on SQLite, with a folder of its own: nothing is left of another run to take over."""
    folder = tmp_path / "laptop"
    lend_network(folder)
    shutil.copyfile(sqlite_template, folder / "siftline.db")
    # Nothing is killed there, so nobody waits for a lease; a busy machine would make a short one run out.
    changes = {"database_url": f"sqlite:///{folder / 'siftline.db'}", "data_dir": folder, "lease_s": 600.0}
    with Line(settings.model_copy(update=changes), folder) as line:
        yield line


@pytest.mark.timeout(5 * LONG_S)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_killed_again_and_again_a_purification_ends_with_the_same_answer(
    production: Line, laptop: Line, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    disturbed = production.upload(tmp_path / "images")
    worker, hits = production.start_worker(), []
    for stage in KILLED_IN:
        worker, in_time = production.kill_in(stage, worker, disturbed["job"]["id"])
        hits += [stage] if in_time else []
    eventually(production.is_done(disturbed["job"]["id"]), within_s=LONG_S)
    assert hits, "every look came too late for its stage"
    assert production.job(disturbed["job"]["id"])["attempt"] > len(hits)
    answer = production.answer(disturbed["dataset"]["id"])
    production.programs.kill_all()

    undisturbed = laptop.upload(tmp_path / "images")
    laptop.start_worker()
    eventually(laptop.is_done(undisturbed["job"]["id"]), within_s=LONG_S)
    assert laptop.job(undisturbed["job"]["id"])["attempt"] == 1
    assert laptop.answer(undisturbed["dataset"]["id"]) == answer
