"""One detector, ready to look at images: its network, and how its scores become verdicts and colours."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siftline import schemas
from siftline.domain.calibration import Calibration
from siftline.imaging import Tone
from siftline.imaging.tiles import join_tiles, tile_layout, to_tiles
from siftline.scoring.network import Network, NetworkUnusable, threads

SCHEMA_VERSION = 1


class ArtifactUnusable(Exception):
    """A stored artifact is not what training wrote. Its text is for the log."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector says of one image; high = anomalous."""

    score: float
    heat: NDArray[np.float32]
    """(rows, columns) over the whole image, on the scale of the score's parts."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The values of a map that are drawn coldest and hottest, the same for every image of a detector."""

    low: float
    high: float

    def levels(self, heat: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(rows, columns) float32 -> uint8, 0 normal to 255 hottest."""
        # A map that is the same everywhere has no span: it is drawn cold, or hot above that.
        share = np.nan_to_num((heat.astype(np.float64) - self.low) / max(self.high - self.low, 1e-12))
        levels: NDArray[np.uint8] = np.rint(255.0 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
        return levels


@dataclass(frozen=True, slots=True)
class LoadedDetector:
    ref: schemas.DetectorRef
    card: schemas.CalibrationCard
    calibration: Calibration
    tone: Tone | None
    scale: Scale
    side: int
    network: Network
    memory_bytes: int

    def look_at(self, rgb: NDArray[np.uint8]) -> Found:
        """(H, W, 3) uint8 of any shape. The image's score is its highest tile's."""
        answers = [self.network(tile) for tile in to_tiles(rgb, self.side)]
        grid = len(answers[0][0])
        patches = np.stack([heat.reshape(-1, 1) for heat, _ in answers])
        heat = join_tiles(patches, tile_layout(*rgb.shape[:2]), grid)[:, :, 0]
        return Found(float(np.max([score for _, score in answers])), heat)


def assemble(ref: schemas.DetectorRef, calibration_json: bytes, onnx: bytes) -> LoadedDetector:
    """Takes a second or so: the network is compiled. Raises ArtifactUnusable."""
    try:
        told = json.loads(calibration_json)
        if told["schema_version"] != SCHEMA_VERSION:
            raise ArtifactUnusable(f"calibration.json has schema version {told['schema_version']}")
        return LoadedDetector(
            ref=ref,
            card=schemas.CalibrationCard.model_validate(told["card"]),
            calibration=Calibration(
                np.array(told["scores"], dtype=np.float32), told["threshold"], told["review_threshold"]
            ),
            tone=None if told["tone"] is None else Tone(**told["tone"]),
            scale=Scale(*told["map_scale"]),
            side=told["side"],
            network=Network(onnx, told["side"], told["grid"]),
            memory_bytes=_memory_of(onnx),
        )
    except (ValueError, LookupError, TypeError, NetworkUnusable) as error:
        raise ArtifactUnusable(f"{type(error).__name__}: {error}") from error


def _memory_of(onnx: bytes) -> int:
    """Rather too much: on two streams 12 MiB of ONNX took 71 MiB, 90 took 181, 270 took 396."""
    return 2 * len(onnx) + threads() * 24 * 2**20
