"""Scores to p-values and verdicts, against what the words promise."""

import numpy as np
import pytest

from siftline.domain.calibration import calibrate, taken_for_good


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


def test_as_many_suspects_as_are_probably_good_count_the_least_odd_ones() -> None:
    suspects = np.array([9.0, 4.0, 7.0, 4.0], np.float32)
    assert taken_for_good(suspects, 2.4).tolist() == [4, 4]
    assert taken_for_good(suspects, 2.6).tolist() == [4, 4, 7]
    assert taken_for_good(suspects, 4.0).tolist() == [4, 4, 7, 9]
    assert taken_for_good(suspects, 0.3).tolist() == []
    assert taken_for_good(suspects[:1], 0.7).tolist() == [9]
    assert taken_for_good(suspects[:0], 0.0).tolist() == []


@pytest.mark.parametrize(
    ("share", "taken"), [(1.0, [*range(20)]), (0.2, [2, 7, 12, 17]), (0.05, [10]), (0.02, [])]
)
def test_of_a_held_out_part_the_suspects_are_that_part_too_and_evenly_odd(
    share: float, taken: list[int]
) -> None:
    suspects = np.arange(30, dtype=np.float32)[::-1]
    assert taken_for_good(suspects, 20.0, share).tolist() == taken


@pytest.mark.parametrize("target_fpr", [0.01, 0.05])
def test_a_cut_that_takes_odd_good_images_away_does_not_raise_the_false_alarms(target_fpr: float) -> None:
    """A purification drops the oddest 7 % of the good and 40 defects, most of which are odder still."""
    random = np.random.default_rng(0)
    without, heeding, missed = [], [], []
    for _ in range(100):
        good, unseen = np.split(random.gumbel(size=2000).astype(np.float32), 2)
        defects = random.normal(9, 2, size=40).astype(np.float32)
        order = np.sort(good)
        clean, odd = order[:930], order[930:]
        found = calibrate(clean, target_fpr, target_fpr)
        without.append((unseen > found.threshold).mean())
        among = taken_for_good(np.concatenate([odd, defects]), 70.0)
        found = calibrate(np.concatenate([clean, among]), target_fpr, target_fpr)
        heeding.append((unseen > found.threshold).mean())
        missed.append((defects <= found.threshold).mean())
    assert np.mean(without) > 0.07  # what is mended
    assert 0.7 * target_fpr < np.mean(heeding) < 1.3 * target_fpr
    assert np.mean(missed) < 0.15


def test_heeding_suspects_never_lets_a_defect_pass_that_the_rate_would_not() -> None:
    """Known the truth, the threshold would not be lower, however mixed the suspects are."""
    random = np.random.default_rng(1)
    for _ in range(50):
        clean = random.normal(size=300).astype(np.float32)
        odd, defects = (random.normal(2, 1, size=m).astype(np.float32) for m in (20, 60))
        among = taken_for_good(np.concatenate([odd, defects]), 20.0)
        heeding, known = (calibrate(np.concatenate([clean, extra]), 0.02, 0.1) for extra in (among, odd))
        assert heeding.threshold <= known.threshold
        assert heeding.review_threshold <= known.review_threshold
