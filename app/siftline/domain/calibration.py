"""From a detector's score to a p-value and a verdict, by the scores of good images it was not trained on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ImageVerdict = Literal["ok", "review", "defect"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores of n good images, ascending, and the two thresholds found from them."""

    scores: NDArray[np.float32]
    """(n,) ascending."""
    threshold: float
    """Scores above it are called defect."""
    review_threshold: float
    """Scores above it are called at least review; never above `threshold`."""

    def __post_init__(self) -> None:
        if len(self.scores) == 0 or not np.isfinite(self.scores).all() or (np.diff(self.scores) < 0).any():
            raise ValueError("calibration needs finite scores in ascending order, at least one")
        if not self.review_threshold <= self.threshold:
            raise ValueError("the review threshold must not be above the defect threshold")

    def p_value(self, score: float) -> float:
        """Conformal: the share of good images that score at least as high, the new one counted among them.

        Smallest possible value 1 / (n + 1). Source: Bates et al., Annals of Statistics 2023.
        """
        n = len(self.scores)
        above = n - int(np.searchsorted(self.scores, np.float32(score), side="left"))
        return (1 + above) / (1 + n)

    def verdict(self, score: float) -> ImageVerdict:
        if score > self.threshold:
            return "defect"
        return "review" if score > self.review_threshold else "ok"


def taken_for_good(
    suspects: NDArray[np.float32], expected_good: float, share: float = 1.0
) -> NDArray[np.float32]:
    """Of the scores (m,) of images a purification put aside, those that calibration counts as good ones'.

    The lowest, as many as are expected to be good. A new good image may be as odd as these; without them,
    ordinary good images alone would say how many alarms are false. When so many are good, thresholds are at
    most what they would be if it were known which: no defect is let pass that the wanted rate would not.
    Where only a `share` of the clean images calibrates, so does that share of these, evenly drawn.
    """
    good = np.sort(suspects)[: round(expected_good)]
    count = round(share * len(good))
    return good[((np.arange(count) + 0.5) * len(good) / max(count, 1)).astype(np.int64)]


def calibrate(scores: NDArray[np.float32], target_fpr: float, review_fpr: float) -> Calibration:
    """Thresholds that a new good image exceeds with probability at most `target_fpr` and `review_fpr`.

    That holds for new images like those of `scores`, (n,) of good images in any order: where a purification
    put odd good ones aside, those `taken_for_good` belong to them.

    The conformal quantile: the ceil((n + 1)(1 - fpr))-th smallest score. With fewer than 1 / fpr - 1 images
    no finite threshold can promise that much; then it is the largest score, and the promise is 1 / (n + 1)
    instead. ValueError without scores or for rates outside 0..1.
    """
    if not 0 < target_fpr < 1 or not 0 < review_fpr < 1:
        raise ValueError("false-alarm rates must be between 0 and 1")
    ascending = np.sort(scores.astype(np.float32))
    threshold = _quantile(ascending, target_fpr)
    return Calibration(ascending, threshold, min(threshold, _quantile(ascending, review_fpr)))


def _quantile(ascending: NDArray[np.float32], fpr: float) -> float:
    n = len(ascending)
    if n == 0:
        raise ValueError("there are no scores to calibrate on")
    position = min(int(np.ceil((n + 1) * (1 - fpr))), n)
    return float(ascending[max(position, 1) - 1])
