"""Scores to p-values and verdicts, against what the words promise."""

import numpy as np
import pytest

from siftline.domain.calibration import calibrate


def _scores(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).round(1).astype(np.float32)  # rounded: with ties


@pytest.mark.parametrize("n", [19, 20, 99, 100, 237])
@pytest.mark.parametrize("fpr", [0.05, 0.1, 0.2])
def test_a_score_is_called_defect_exactly_when_its_p_value_is_within_the_rate(n: int, fpr: float) -> None:
    calibration = calibrate(_scores(n), fpr, fpr)
    for score in [*_scores(n), *_scores(50, seed=1), -np.inf, np.inf]:
        is_defect = calibration.verdict(float(score)) == "defect"
        assert is_defect == (calibration.p_value(float(score)) <= fpr + 1e-12), score


@pytest.mark.parametrize("n", [19, 20, 99, 237])
def test_of_exchangeable_scores_no_larger_share_than_promised_is_above_the_threshold(n: int) -> None:
    """Each score in turn as the new one, calibrated on the others: all there is to the promise."""
    scores = _scores(n + 1)
    above = [scores[i] > calibrate(np.delete(scores, i), 0.05, 0.05).threshold for i in range(n + 1)]
    assert np.mean(above) <= 0.05


def test_too_few_scores_promise_what_they_can() -> None:
    calibration = calibrate(np.array([3.0, 1.0, 2.0], np.float32), 0.01, 0.05)
    assert calibration.threshold == calibration.review_threshold == 3
    assert calibration.p_value(99.0) == 1 / 4
    assert calibration.p_value(-99.0) == 1


def test_the_review_threshold_is_never_above_the_defect_threshold() -> None:
    calibration = calibrate(_scores(100), target_fpr=0.2, review_fpr=0.05)
    assert calibration.review_threshold == calibration.threshold
    assert calibration.verdict(calibration.threshold) == "ok"


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(_scores(9), rate, 0.1)


def test_no_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no scores"):
        calibrate(np.zeros(0, np.float32), 0.1, 0.1)
