"""Drift figures: quiet on images like the calibration's, loud on others."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from uuid_utils.compat import uuid7

from siftline.domain.calibration import calibrate
from siftline.metrics.drift import FEWEST, Drift, stability_index


@pytest.mark.parametrize("calibration_images", [5, 60, 1000])
def test_the_index_is_low_on_images_like_the_calibrations_and_high_on_others(calibration_images: int) -> None:
    random = np.random.default_rng(1)
    calibration = calibrate(random.normal(size=calibration_images).astype(np.float32), 0.01, 0.05)

    def index(scores: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        return stability_index(np.array([calibration.p_value(score) for score in scores]), calibration_images)

    if calibration_images > 50:  # five scores say too little of what normal is
        assert index(random.normal(size=500)) < 0.2
    assert index(random.normal(2.0, size=500)) > 0.5


def test_the_index_is_nothing_when_every_possible_p_value_comes_equally_often() -> None:
    for images in (3, 9, 37):
        p_values = np.repeat(np.arange(1, images + 2) / (images + 1), 5)
        assert stability_index(p_values, images) == pytest.approx(0.0, abs=1e-12)


def test_a_detector_has_figures_once_it_has_met_enough_images() -> None:
    registry = CollectorRegistry()
    drift, detector = Drift(registry), uuid7()
    drift.scored(detector, 50, [(0.5, "ok")] * (FEWEST - 1))
    assert b"siftline_score_p_value_mean{" not in generate_latest(registry)
    drift.scored(detector, 50, [(0.02, "defect")])
    told = generate_latest(registry).decode()
    assert f'siftline_scored_images_total{{detector="{detector}",verdict="defect"}} 1.0' in told
    assert f'siftline_score_p_value_mean{{detector="{detector}"}} 0.4952' in told
