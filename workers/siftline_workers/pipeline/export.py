"""A trained detector as the files that the service scores with, compared with torch on real images."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from siftline.domain.calibration import Calibration
from siftline.domain.errors import Unprocessable
from siftline.imaging import ImageLimits, ImageRejected, decode_rgb
from siftline.imaging.tiles import to_tiles
from siftline.schemas import CalibrationCard
from siftline_workers.methods import onnx_export
from siftline_workers.methods.detectors import Trained
from siftline_workers.methods.onnx_export import Parity
from siftline_workers.methods.seeding import Progress
from siftline_workers.pipeline import detector_files
from siftline_workers.pipeline.clean_set import CleanSet
from siftline_workers.pipeline.extract import StoredImage

CHECKED_TILES = 8

_NO_LIMITS = ImageLimits(max_pixels=2**62)  # ingest has checked every image against the limits of its day


@torch.no_grad()  # the network is still to be exported: it must not come to hold tensors of inference mode
def scores_aside(trained: Trained, clean: CleanSet, side: int, on_progress: Progress) -> NDArray[np.float32]:
    """(m,) image scores of what the clean set has put aside. Raises Unprocessable for an unreadable one."""
    scores: list[float] = []
    for image in clean.aside:
        on_progress(len(scores) / len(clean.aside))
        tiles = torch.from_numpy(to_tiles(_decoded(clean, image), side))
        scores.append(max(float(trained.module(tile[None])[1]) for tile in tiles))
    return np.array(scores, np.float32)


def write(
    folder: Path,
    trained: Trained,
    clean: CleanSet,
    *,
    side: int,
    calibration: Calibration,
    card: CalibrationCard,
    on_progress: Progress,
) -> Parity:
    """model.onnx, model.safetensors and calibration.json in `folder`.

    `on_progress` may raise to cancel. Raises ExportDiffers when the ONNX file does not compute what the
    trained network does, Unprocessable when an image cannot be read.
    """
    tiles = _some_tiles(clean, side)
    parity = onnx_export.export(trained.module, side, folder / "model.onnx", tiles, on_progress)
    maps = _maps(trained, tiles)
    detector_files.write_weights(folder / "model.safetensors", trained.weights)
    detector_files.write_calibration(
        folder / "calibration.json",
        calibration,
        card,
        side=side,
        grid=maps.shape[1],
        tone=clean.tone,
        map_scale=_map_scale(maps, calibration.threshold),
    )
    return parity


def _some_tiles(clean: CleanSet, side: int) -> NDArray[np.uint8]:
    """(T, side, side, 3) of the first images; as they come in the order of their hashes, of any images."""
    tiles = (tile for image in clean.images for tile in to_tiles(_decoded(clean, image), side))
    return np.stack(list(islice(tiles, CHECKED_TILES)))


def _decoded(clean: CleanSet, image: StoredImage) -> NDArray[np.uint8]:
    """Training reads features from the cache, so this may be the first to miss an image."""
    try:
        return decode_rgb(image.open_bytes(), _NO_LIMITS, clean.tone)
    except (OSError, ImageRejected) as error:
        image_id = clean.image_ids[image.image_id]
        raise Unprocessable(
            f"Image {image_id}: the stored file cannot be read.", image_id=str(image_id)
        ) from error


@torch.inference_mode()
def _maps(trained: Trained, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(T, g, g)"""
    maps = [trained.module(torch.from_numpy(tiles[i : i + 1]))[0].numpy() for i in range(len(tiles))]
    return np.concatenate(maps)


def _map_scale(maps: NDArray[np.float32], threshold: float) -> tuple[float, float]:
    """The values drawn coldest and hottest: the typical one, and twice as far from it as the threshold.

    So the middle of the colours means: this alone would be a defect.
    """
    typical = float(np.median(maps))
    reach = threshold - typical
    if reach <= 0:  # a method whose score is on another scale than its map
        reach = float(maps.max()) - typical or 1.0
    return typical, typical + 2 * reach
