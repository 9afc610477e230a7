"""What the service reads of a detector: colours that mean something, a curve of bearable length."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from siftline.domain.calibration import calibrate
from siftline.imaging import Tone
from siftline.schemas import CalibrationCard
from siftline_workers.methods.detectors import CurvePoint
from siftline_workers.pipeline import detector_files, export, train


def card(threshold: float) -> CalibrationCard:
    return CalibrationCard(
        method="conformal, held-out fifth",
        n=3,
        in_sample=False,
        version=1,
        date=datetime.now(UTC),
        target_fpr=0.01,
        review_fpr=0.05,
        threshold=threshold,
        review_threshold=threshold,
    )


def test_the_threshold_is_the_middle_of_the_colours() -> None:
    maps = np.array([[[1.0, 1.0], [1.0, 4.0]]], dtype=np.float32)
    low, high = export._map_scale(maps, threshold=6.0)
    assert (low, high) == (1.0, 11.0)


@pytest.mark.parametrize("maps", [np.zeros((1, 2, 2), np.float32), np.array([[[9, 9], [9, 12]]], np.float32)])
def test_colours_differ_even_where_scores_and_maps_are_on_different_scales(
    maps: np.ndarray[tuple[int, int, int], np.dtype[np.float32]],
) -> None:
    low, high = export._map_scale(maps, threshold=-1.0)
    assert low < high
    assert np.isfinite([low, high]).all()


def test_a_long_curve_is_thinned_evenly_with_both_ends_kept() -> None:
    curve = [CurvePoint(step, 1 / (step + 1)) for step in range(10_000)]
    kept = train._thinned(curve, 400)
    assert len(kept) == 400
    assert (kept[0], kept[-1]) == (curve[0], curve[-1])
    steps = np.diff([point.step for point in kept])
    assert steps.max() - steps.min() <= 1
    assert train._thinned(curve[:7], 400) == curve[:7]


def test_calibration_scores_survive_json_to_the_last_bit(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    found = calibrate(scores, 0.1, 0.2)
    path = tmp_path / "calibration.json"
    detector_files.write_calibration(
        path,
        found,
        card(found.threshold),
        side=256,
        grid=16,
        tone=Tone(0.0, 4095.0),
        map_scale=(0.0, 1.0),
    )
    told = json.loads(path.read_text())
    np.testing.assert_array_equal(np.array(told["scores"], dtype=np.float32), found.scores)
    assert told["threshold"] == found.threshold
    assert told["tone"] == {"black": 0.0, "white": 4095.0}
    assert CalibrationCard.model_validate(told["card"]).threshold == found.threshold
