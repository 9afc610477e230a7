"""One order of images on the scales of several signals.

A mixture needs more than an order: it needs a scale on which normal images look alike and odd ones stand
apart. No one signal is right for every set (benchmarks/LOG.md): the tail of a clean set is long on one scale
and short on another, while real anomalies stand out on both. So the order is put on several, and what is
concluded from each is averaged.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scores import ScoredImages

Values = NDArray[np.float64]

WITNESSES = ("neighbours", "llbnad")
"""Signals that are plain distances. A head trained on its own labels splits even clean data in two heaps, and
a Gaussian a place has no tail where it was fitted with the anomalies: on such scales nothing can be counted.
"""


def on_scales(
    scores: ScoredImages, signals: Mapping[str, ScoredImages], member: NDArray[np.int64]
) -> list[Values]:
    """Of N images (N,) values a scale: the order of `scores` with the distribution of each witness.

    `member` (N,) numbers the things from 0. Without any witness the scores stand on their own scale.
    """
    ranking = scores.values.astype(np.float64)
    known = [signals[name].aligned_to(scores.ids) for name in WITNESSES if name in signals]
    return [on_scale(ranking, shared(values, member), member) for values in known] or [ranking]


def shared(values: NDArray[np.floating], member: NDArray[np.int64]) -> Values:
    """(N,) (sum over the thing + own) / (its photographs + 1): the own photograph is one more witness."""
    size = np.bincount(member)
    total = np.bincount(member, values.astype(np.float64))
    mean: Values = (total[member] + values) / (size[member] + 1)
    return mean


def on_scale(ranking: Values, reference: Values, member: NDArray[np.int64]) -> Values:
    """The order of `ranking` (N,) with the distribution of `reference` (N,), each thing counting once.

    Counted by images instead, six photographs high in one order and a lone image high in the other would
    trade values, and a clean set could seem contaminated.
    """
    if len(ranking) == 0:
        return ranking
    weights = (1 / np.bincount(member))[member]
    _, of_ranking, place = _mass_below(ranking, weights)
    values, of_reference, _ = _mass_below(reference, weights)
    # A little beyond both ends, so that no two images that differ in rank share the last value.
    margin = np.ptp(values) / len(values)
    known = np.concatenate([[0.0], of_reference, [weights.sum()]])
    values = np.concatenate([[values[0] - margin], values, [values[-1] + margin]])
    scaled: Values = np.interp(of_ranking, known, values)[place]
    return scaled


def _mass_below(values: Values, weights: Values) -> tuple[Values, Values, NDArray[np.int64]]:
    """The distinct values ascending, the mass below the middle of each, and which of them each image has."""
    distinct, place = np.unique(values, return_inverse=True)
    mass = np.bincount(place, weights)
    return distinct, np.cumsum(mass) - mass / 2, place
