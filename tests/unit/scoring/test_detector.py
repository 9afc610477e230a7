"""One detector and one image: tiles in, the highest score and one map out."""

from uuid import uuid4

import numpy as np
import pytest

from siftline import schemas
from siftline.imaging.tiles import to_tiles
from siftline.scoring.detector import ArtifactUnusable, LoadedDetector, Scale, assemble
from tests.integration.detecting import GRID, SIDE, calibration_json, edges_onnx

REF = schemas.DetectorRef(id=uuid4(), name="edges", method="funad", version=1)


@pytest.fixture(scope="module")
def detector() -> LoadedDetector:
    return assemble(REF, calibration_json(), edges_onnx())


@pytest.mark.parametrize("shape", [(40, 200, 3), (200, 40, 3), (64, 64, 3), (1, 700, 3)])
def test_a_long_image_has_the_score_of_its_worst_tile_and_the_maps_side_by_side(
    detector: LoadedDetector, shape: tuple[int, int, int]
) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    found = detector.look_at(rgb)
    each = [detector.network(tile) for tile in to_tiles(rgb, SIDE)]
    along = 0 if shape[0] > shape[1] else 1
    assert found.score == max(float(score) for _, score in each)
    assert np.array_equal(found.heat, np.concatenate([heat for heat, _ in each], axis=along))
    assert sorted(found.heat.shape) == [GRID, GRID * len(each)]


def test_an_answer_is_kept_when_the_network_is_asked_again(detector: LoadedDetector) -> None:
    generator = np.random.default_rng(2)
    first, second = (generator.integers(0, 256, (50, 50, 3), dtype=np.uint8) for _ in range(2))
    found = detector.look_at(first)
    kept = found.heat.copy()
    assert not np.array_equal(detector.look_at(second).heat, kept)
    assert np.array_equal(found.heat, kept)
    assert np.array_equal(detector.look_at(first).heat, kept)


def test_levels_run_from_cold_to_hot_and_never_wrap() -> None:
    heat = np.array([[-1e9, 2.0, 3.0, 4.0, 1e9, np.nan]], dtype=np.float32)
    assert Scale(2.0, 4.0).levels(heat).tolist() == [[0, 0, 128, 255, 255, 0]]
    assert Scale(3.0, 3.0).levels(heat).tolist() == [[0, 0, 0, 255, 255, 0]]


@pytest.mark.parametrize(
    "calibration",
    [
        b"no JSON",
        b"{}",
        b"[]",
        calibration_json(schema_version=2),
        calibration_json(scores=[2.0, 1.0]),
        calibration_json(side=64),
        calibration_json(card={}),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(calibration: bytes) -> None:
    with pytest.raises(ArtifactUnusable):
        assemble(REF, calibration, edges_onnx())
