"""Probabilities that heed what people said: known truth where there is any, and never falling with the score.

Isotonic regression by pooling adjacent violators (Barlow et al. 1972). An image that a person decided counts
as what it is, every other as the mixture sees it, a thing of either kind once. Where they contradict each
other (a kept image above undecided ones, a rejected one below), neighbours in score are pooled to the share
of bad things among them. That is cautious on purpose: people often mark only the bad ones of those they look
at, so the marked ones alone would say too much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def heeding(p: Values, truth: Values, scores: Values, weights: Values) -> Values:
    """(N,) `p`, where `truth` is known (1 anomalous, 0 not; NaN unknown) that, and monotone for the others.

    `p` never falls with `scores`. Without any truth it comes back as it is.
    """
    known = ~np.isnan(truth)
    if not known.any():
        return p
    target = np.where(known, truth, p)
    place = np.unique(scores, return_inverse=True)[1]
    mass = np.bincount(place, weights).astype(np.float64)
    pooled = _pooled(np.bincount(place, weights * target) / mass, mass)[place]
    return np.where(known, truth, pooled)


def _pooled(values: Values, weights: Values) -> Values:
    """The never falling sequence that is nearest to `values` (n,) in weighted squares."""
    mean: list[float] = []
    weight: list[float] = []
    length: list[int] = []
    for value, w in zip(values.tolist(), weights.tolist(), strict=True):
        mean.append(value)
        weight.append(w)
        length.append(1)
        while len(mean) > 1 and mean[-2] > mean[-1]:
            joined = weight[-2] + weight[-1]
            mean[-2] = (mean[-2] * weight[-2] + mean[-1] * weight[-1]) / joined
            weight[-2] = joined
            length[-2] += length[-1]
            del mean[-1], weight[-1], length[-1]
    return np.repeat(mean, length)
