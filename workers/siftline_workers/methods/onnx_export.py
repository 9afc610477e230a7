"""A detector as one ONNX file, from RGB pixels to map and score, checked against torch before anyone uses it.

Input `tile` (1, S, S, 3) uint8; outputs `map` (1, g, g) and `score` (1,), float32. The check runs the file
as the service does, with OpenVINO in float32 on the CPU, so it proves the whole way and not only the export.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siftline_workers.methods.seeding import Progress, ignore_progress

SCHEMA_VERSION = 1
TOLERANCE = 1e-3
"""Of the spread of torch's map: the largest difference allowed. Measured: benchmarks/LOG.md."""
_WRITTEN = 0.9  # of an export's time, as measured with `lite`


class ExportDiffers(Exception):
    """The written file does not compute what the module computes. The message has the figures."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest absolute differences between torch and the ONNX file over some tiles."""

    map: float
    score: float
    spread: float
    """Largest less smallest value of torch's maps over the same tiles: the differences' yardstick."""

    @property
    def relative(self) -> float:
        """The larger difference as a share of the spread; infinite when values differ where there is none."""
        largest = float(np.max([self.map, self.score]))  # numpy's: a NaN must not be lost on the way
        if self.spread == 0:
            return 0.0 if largest == 0 else float("inf")
        return largest / self.spread


def export(
    module: nn.Module,
    side: int,
    path: Path,
    tiles: NDArray[np.uint8],
    on_progress: Progress = ignore_progress,
) -> Parity:
    """Write `module` (a `Trained.module`) to `path` and compare the file with it on `tiles`.

    `tiles` (T, side, side, 3) should be real ones: a difference may show only on real values. Raises
    ExportDiffers above TOLERANCE, leaving no file; ValueError for tiles of another shape or none.
    """
    if tiles.dtype != np.uint8 or tiles.shape[1:] != (side, side, 3) or len(tiles) == 0:
        raise ValueError(f"tiles must be (T, {side}, {side}, 3) uint8, at least one; got {tiles.shape}")
    _write(module, side, path)
    on_progress(_WRITTEN)
    found = parity(module, path, tiles, lambda share: on_progress(_WRITTEN + (1 - _WRITTEN) * share))
    if not found.relative <= TOLERANCE:
        path.unlink()
        raise ExportDiffers(
            f"the ONNX file differs from the trained network by {found.map:.2g} in the map and "
            f"{found.score:.2g} in the score: {found.relative:.2g} of the map's spread, where at most "
            f"{TOLERANCE:g} is allowed"
        )
    return found


def parity(
    module: nn.Module, path: Path, tiles: NDArray[np.uint8], on_progress: Progress = ignore_progress
) -> Parity:
    """How far the file at `path` is from `module` on `tiles`, one at a time as the service scores them."""
    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    )
    expected, found = [], []
    for i in range(len(tiles)):
        with torch.inference_mode():
            expected.append([t.numpy() for t in module(torch.from_numpy(tiles[i : i + 1]))])
        answer = compiled({"tile": tiles[i : i + 1]})
        found.append([answer["map"], answer["score"]])
        on_progress((i + 1) / len(tiles))
    of_map, of_score = (
        np.abs(np.concatenate(a) - np.concatenate(b)).max()
        for a, b in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True)
    )
    spread = np.ptp(np.concatenate([maps for maps, _ in expected]))
    return Parity(float(of_map), float(of_score), float(spread))


def _write(module: nn.Module, side: int, path: Path) -> None:
    example: Tensor = torch.zeros((1, side, side, 3), dtype=torch.uint8)
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=["tile"],
            output_names=["map", "score"],
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: Any = program.model
    model.producer_name, model.producer_version = "siftline", str(SCHEMA_VERSION)
    model.metadata_props["schema_version"] = str(SCHEMA_VERSION)
    for node in model.graph:
        node.metadata_props.clear()  # the exporter's notes name files of this machine
    program.save(path, external_data=False)
