"""Training over the real programs: killed, started again, cancelled; it ends as if nothing had been."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save_file
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import JobState
from siftline.main import create_app
from siftline.settings import Settings
from tests.acceptance.programs import Program, Programs, eventually
from tests.acceptance.test_purification_survives import CELERY
from tests.integration.training import solar_cells

CELLS = 40
NETWORK = "test_efficientnet"  # timm's smallest: programs start often here, and a larger one takes seconds
BUDGET = {"max_steps": 60, "target_fpr": 0.1}
PATIENCE_S = 360
ENDLESS = {"max_steps": 10**7, "seed": 1}


def write_random_weights(folder: Path) -> None:
    folder.mkdir()
    torch.manual_seed(0)
    network = timm.create_model(NETWORK, pretrained=False)
    save_file(dict(network.state_dict()), folder / f"{NETWORK}.safetensors")


class Plant:
    """A running deployment with one dataset."""

    def __init__(
        self, api: TestClient, settings: Settings, sessions: sessionmaker[Session], programs: Programs
    ) -> None:
        self.api, self.settings, self.sessions, self.programs = api, settings, sessions, programs
        self.dataset_id = ""

    def start_worker(self) -> Program:
        return self.programs.start(self.settings, *CELERY)

    def upload(self) -> str:
        """The id of the purification job."""
        files = [("files", cell) for cell in solar_cells(CELLS)]
        fields = {"name": "cells", "options": json.dumps({"backbone": f"timm:{NETWORK}"})}
        body = self.api.post("/datasets", data=fields, files=files).json()
        self.dataset_id = body["dataset"]["id"]
        return str(body["job"]["id"])

    def train(self, options: dict[str, Any]) -> dict[str, Any]:
        asked = {"dataset_id": self.dataset_id, "method": "funad", "options": options}
        answer = self.api.post("/detectors", json=asked)
        assert answer.status_code == 202, answer.text
        detector: dict[str, Any] = answer.json()["detector"]
        return detector

    def job(self, job_id: str) -> dict[str, Any]:
        time.sleep(0.1)  # asked again and again: the programs need the processors more
        job: dict[str, Any] = self.api.get(f"/jobs/{job_id}").json()
        assert job["state"] != JobState.FAILED, f"{job}\n{self.programs.logs()}"
        return job

    def until(self, job_id: str, state: JobState) -> dict[str, Any]:
        eventually(lambda: self.job(job_id)["state"] == state, within_s=PATIENCE_S)
        return self.job(job_id)

    def is_half_trained(self, job_id: str) -> bool:
        """Whether the training runs and has put something by."""
        running = self.job(job_id)["stage"] == "train"
        # os.walk, because rglob stumbles over a folder that goes while it looks.
        names = [name for _, _, names in os.walk(self.settings.work_dir) for name in names]
        return running and any(name.endswith(".npz") for name in names)

    def outcome(self, detector: dict[str, Any]) -> tuple[bytes, list[float], list[Any]]:
        """Weights, calibration scores, curve."""
        path = f"/detectors/{detector['id']}"
        shown = self.api.get(path).json()
        assert shown["state"] == "ready"
        weights = self.api.get(f"{path}/artifacts/model.safetensors").content
        calibration = json.loads(self.api.get(f"{path}/artifacts/calibration.json").content)
        return weights, calibration["scores"], shown["curve"]


@pytest.fixture
def plant(
    settings: Settings, sessions: sessionmaker[Session], redis_url: str, tmp_path: Path
) -> Iterator[Plant]:
    changes = {"redis_url": redis_url, "max_attempts": 20, "weights_dir": tmp_path / "weights"}
    production = settings.model_copy(update=changes)
    write_random_weights(tmp_path / "weights")
    programs = Programs(tmp_path)
    try:
        with TestClient(
            create_app(production), base_url="http://127.0.0.1", client=("127.0.0.1", 50000)
        ) as api:
            yield Plant(api, production, sessions, programs)
    finally:
        programs.kill_all()


@pytest.mark.timeout(5 * PATIENCE_S)
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_cancelled_training_frees_its_worker_and_a_killed_one_ends_with_the_same_detector(
    plant: Plant,
) -> None:
    plant.programs.start(plant.settings, "-m", "siftline", "sweeper")
    worker = plant.start_worker()
    plant.until(plant.upload(), JobState.SUCCEEDED)

    cancelled = plant.train(ENDLESS)
    job_id = cancelled["job"]["id"]
    eventually(lambda: plant.is_half_trained(job_id), within_s=PATIENCE_S)
    assert plant.api.delete(f"/detectors/{cancelled['id']}").status_code == 409
    assert plant.api.post(f"/jobs/{job_id}/cancel").status_code == 202
    plant.until(job_id, JobState.CANCELLED)
    assert plant.api.get(f"/detectors/{cancelled['id']}").json()["state"] == "cancelled"
    assert plant.api.delete(f"/detectors/{cancelled['id']}").status_code == 204
    plant.settings.work_dir.rename(plant.settings.work_dir.with_name("of-the-cancelled"))

    killed = plant.train(BUDGET)
    job_id = killed["job"]["id"]
    eventually(lambda: plant.is_half_trained(job_id), within_s=PATIENCE_S)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert plant.job(job_id)["state"] in (JobState.RUNNING, JobState.QUEUED)
    plant.start_worker()
    assert plant.until(job_id, JobState.SUCCEEDED)["attempt"] > 1
    plant.programs.kill_all()

    # Once more, undisturbed and with nothing of the first left to take over.
    for folder in (plant.settings.features_dir, plant.settings.work_dir):
        folder.rename(folder.with_name(f"of-the-killed-{folder.name}"))
    plant.start_worker()
    undisturbed = plant.train(BUDGET)
    plant.until(undisturbed["job"]["id"], JobState.SUCCEEDED)
    assert plant.outcome(killed) == plant.outcome(undisturbed)
