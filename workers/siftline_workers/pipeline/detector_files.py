"""What a training leaves behind: the detector's artifacts as files in a folder, before they become rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from siftline.domain.calibration import Calibration
from siftline.imaging import Tone
from siftline.schemas import CalibrationCard, Lineage
from siftline_workers.methods.detectors import CurvePoint
from siftline_workers.methods.onnx_export import Parity

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    path: Path
    media_type: str


def files_in(folder: Path) -> list[ArtifactFile]:
    """The artifacts of a finished training."""
    kinds = {
        "model.onnx": "application/octet-stream",
        "model.safetensors": "application/octet-stream",
        "calibration.json": "application/json",
        "report.json": "application/json",
        "curve.png": "image/png",
    }
    return [ArtifactFile(folder / name, media_type) for name, media_type in kinds.items()]


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    # One entry of metadata: several would be written in another order each time.
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    save_file(whole, path, metadata={"schema_version": str(SCHEMA_VERSION)})


def write_calibration(
    path: Path,
    calibration: Calibration,
    card: CalibrationCard,
    *,
    side: int,
    grid: int,
    tone: Tone | None,
    map_scale: tuple[float, float],
) -> None:
    """All that the service needs beside the network to turn an image into a verdict and a picture."""
    told = {
        "schema_version": SCHEMA_VERSION,
        "side": side,
        "grid": grid,
        "tone": None if tone is None else asdict(tone),
        "map_scale": list(map_scale),
        "threshold": calibration.threshold,
        "review_threshold": calibration.review_threshold,
        "scores": [float(score) for score in calibration.scores],
        "card": card.model_dump(mode="json"),
    }
    _write_json(path, told)


def write_report(
    path: Path,
    *,
    lineage: Lineage,
    card: CalibrationCard,
    curve: Sequence[CurvePoint],
    parity: Parity,
    stage_seconds: Mapping[str, float],
    peak_memory_bytes: int,
) -> None:
    told = {
        "schema_version": SCHEMA_VERSION,
        "lineage": lineage.model_dump(mode="json"),
        "calibration": card.model_dump(mode="json"),
        "curve": [asdict(point) for point in curve],
        "parity": {**asdict(parity), "relative": parity.relative},
        "stage_seconds": dict(stage_seconds),
        "peak_memory_bytes": peak_memory_bytes,
    }
    _write_json(path, told)


def _write_json(path: Path, told: Mapping[str, Any]) -> None:
    # Not-a-number is no JSON; better to fail here than in whoever reads it.
    path.write_text(json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1), encoding="utf-8")


def draw_curve(path: Path, curve: Sequence[CurvePoint], calibration: Calibration) -> None:
    """The loss as training went on, and where the thresholds lie among the scores of good images."""
    figure = Figure(figsize=(9, 3.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: it keeps figures, and asks the machine for a display
    loss, scores = figure.subplots(1, 2)
    loss.plot([point.step for point in curve], [point.loss for point in curve], color="#2b6cb0")
    loss.set(xlabel="step", ylabel="loss", title="Training")
    values: NDArray[np.float32] = calibration.scores
    scores.hist(values, bins=min(40, max(5, len(values) // 5)), color="#a0aec0")
    for name, at, colour in (
        ("review", calibration.review_threshold, "#d69e2e"),
        ("defect", calibration.threshold, "#c53030"),
    ):
        scores.axvline(at, color=colour, label=f"{name} above {at:.3g}")
    scores.set(xlabel="score", ylabel="good images", title=f"Calibration on {len(values)} good images")
    scores.legend()
    figure.savefig(path, metadata={"Software": None})
