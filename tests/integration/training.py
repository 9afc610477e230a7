"""What the tests of training share: real solar cells in a version, a detector asked for, its job run here."""

import importlib.util
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import torch
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session, sessionmaker
from torch import Tensor, nn
from torch.nn import functional as F

from siftline.domain.scores import ScoredImages
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.session import transaction
from siftline_workers.methods.backbones import Backbone, Preset
from siftline_workers.methods.detectors import (
    Budget,
    CurvePoint,
    Keeper,
    TooFewImages,
    Trained,
    TrainingSet,
)
from siftline_workers.methods.engines import TorchEngine
from siftline_workers.methods.pieces import Share, alone
from siftline_workers.methods.seeding import Progress
from siftline_workers.running import RunningJob
from tests.integration.api.conftest import made
from tests.integration.api.test_answers import pages, write_version
from tests.integration.job_steps import claim


def solar_cells(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Real photographs from the package elpv-dataset, of 300 x 300 pixels."""
    spec = importlib.util.find_spec("elpv_dataset")
    assert spec is not None
    assert spec.origin is not None
    paths = sorted((Path(spec.origin).parent / "data" / "images").glob("*.png"))
    return [(path.name, path.read_bytes()) for path in paths[first : first + count]]


@dataclass(frozen=True, slots=True)
class Line:
    """A dataset with one version, and whatever detectors are trained on it."""

    api: TestClient
    sessions: sessionmaker[Session]
    settings: Settings
    dataset_id: str

    def ask(self, method: str = "funad", **options: Any) -> dict[str, Any]:
        body = {"dataset_id": self.dataset_id, "method": method, "options": options}
        answer = self.api.post("/detectors", json=body)
        assert answer.status_code == 202, answer.text
        detector: dict[str, Any] = answer.json()["detector"]
        return detector

    def detector(self, detector: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/detectors/{detector['id']}").json()
        return found

    def running(self, detector: dict[str, Any]) -> tuple[RunningJob, threading.Event]:
        """The training's job as its worker has it, and what stops it."""
        job_id, stop = UUID(detector["job"]["id"]), threading.Event()
        held = claim(self.sessions, job_id)
        with transaction(self.sessions) as session:
            row = jobs.get(session, job_id)
        return RunningJob(row, held, self.settings, self.sessions, stop), stop

    def file(self, detector: dict[str, Any], name: str) -> bytes:
        answer = self.api.get(f"/detectors/{detector['id']}/artifacts/{name}")
        assert answer.status_code == 200, answer.text
        content: bytes = answer.content
        return content


def new_line(
    api: TestClient, sessions: sessionmaker[Session], settings: Settings, *, cells: int, suspects: int
) -> Line:
    dataset_id = made(api, *solar_cells(cells))["dataset"]["id"]
    for job in pages(api, "/jobs"):  # these tests write the version themselves
        api.post(f"/jobs/{job['id']}/cancel")
    image_ids = [image["id"] for image in pages(api, f"/datasets/{dataset_id}/images")]
    write_version(sessions, dataset_id, image_ids, suspects=suspects)
    return Line(api, sessions, settings, dataset_id)


class MeanPatch:
    """The smallest detector there is: how far each patch's colour is from the usual. Trains in no time."""

    steps = 4
    steps_done = 0

    def extractor(self, preset: Preset, weights: Path | None, device: str) -> Backbone:
        engine = TorchEngine(Colours(preset), torch.device("cpu"), half=False)
        return Backbone(preset, "mean-colours", 3, engine)

    def train(
        self,
        data: TrainingSet,
        preset: Preset,
        weights: Path | None,
        options: Mapping[str, Any],
        *,
        seed: int,
        budget: Budget,
        keeper: Keeper,
        on_progress: Progress,
        share: Share = alone,
    ) -> Trained:
        features = data.features
        if features.n_images < 12:
            raise TooFewImages("12 images are needed.")
        # Each step takes in a share of the patches, and is kept as a training's steps are.
        kept = keeper.load("state") or {"total": np.zeros(features.dim), "done": np.array(0)}
        total, done, curve = kept["total"], int(kept["done"]), []
        shares = np.array_split(features.patches, self.steps)
        while done < min(self.steps, budget.max_steps or self.steps) and not budget.out_of_time():
            total = total + shares[done].astype(np.float64).mean(0)
            done += 1
            keeper.save("state", {"total": total, "done": np.array(done)})
            curve.append(CurvePoint(done, 1.0 / done))
            on_progress(done / self.steps)
        self.steps_done = done
        mean = (total / max(done, 1)).astype(np.float32)
        module = FarFromMean(preset, torch.from_numpy(mean)).eval()
        far = np.linalg.norm(features.patches.astype(np.float32) - mean, axis=1)
        scores = np.maximum.reduceat(far, features.offsets[:-1])
        out_of_fold = ScoredImages(features.ids, scores)
        return Trained(module, {"mean": module.mean}, out_of_fold, True, "all images", tuple(curve))


class Colours(nn.Module):
    def __init__(self, preset: Preset) -> None:
        super().__init__()
        self.cell = preset.side // preset.grid

    def forward(self, tiles: Tensor) -> Tensor:
        pixels = tiles.permute(0, 3, 1, 2).to(torch.float32)
        return F.avg_pool2d(pixels, self.cell).flatten(2).transpose(1, 2)


class FarFromMean(nn.Module):
    mean: Tensor

    def __init__(self, preset: Preset, mean: Tensor) -> None:
        super().__init__()
        self.colours = Colours(preset)
        self.grid = preset.grid
        self.register_buffer("mean", mean)

    def forward(self, tiles: Tensor) -> tuple[Tensor, Tensor]:
        far = (self.colours(tiles) - self.mean).square().sum(2).sqrt()
        return far.reshape(-1, self.grid, self.grid), far.amax(1)
