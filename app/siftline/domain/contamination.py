"""How much of a set is anomalous, from its scores alone: a mixture, cross-checked twice, as an interval.

Scores are first brought to a scale on which the normal part is a standard normal distribution: a shifted
logarithm whose shift is read off the lower quantiles, which contamination hardly reaches. Then
- a two-component mixture by EM, in the spirit of gammaGMM (Perini et al., ICML 2023, arXiv 2210.10487),
  with the normal part held at its place, compared by BIC with no second component at all;
- Storey's estimate of the share of nulls (Storey, JRSS B 2002) from the normal tail probabilities;
- peaks over threshold (Siffer et al., KDD 2017): how much more tail there is than the body predicts.
Photographs of one thing count once, or six pictures of one odd part would look like six odd parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import erf, log, pi, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Evidence = Literal["none", "weak", "strong"]

_MOST = 0.5  # a majority cannot be the anomaly
FEWEST = 20  # things; below that no shape of a distribution can be told


@dataclass(frozen=True, slots=True)
class Contamination:
    """Share of anomalous images in the set."""

    estimate: float
    interval: tuple[float, float]
    """80 %."""
    evidence: Evidence
    methods: dict[str, float]
    """Each estimator's own answer."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """On the normal scale: a normal part with weight 1 - share, an odd part with weight `share` above it."""

    share: float
    normal: tuple[float, float]
    """Mean and standard deviation."""
    odd: tuple[float, float]
    bic_gain: float
    """BIC of one component less BIC of two. Above 2 is positive evidence, above 10 very strong (Kass and
    Raftery, JASA 1995)."""

    def p_anomalous(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Local false discovery rate turned round (Efron 2004): P(anomalous | z), never falling with z."""
        if self.share <= 0 or len(z) == 0:
            return np.zeros_like(z)
        centre = self.normal[0]
        grid = np.linspace(min(-4.0, float(z.min())), max(8.0, float(z.max())), 2048)
        p = self._posterior(grid)
        p[grid < centre] = 0.0  # a wide odd part would claim the very lowest scores too
        return np.interp(z, grid, np.maximum.accumulate(p))

    def _posterior(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        odd = self.share * _density(z, *self.odd)
        posterior: NDArray[np.float64] = odd / (odd + (1 - self.share) * _density(z, *self.normal) + 1e-300)
        return posterior


def normal_scale(scores: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) scores on a scale where the normal part is N(0, 1). Zeros when the scores do not vary."""
    wide = scores.astype(np.float64)
    low, middle, high = (_quantile(wide, weights, q) for q in (0.1, 0.35, 0.6))
    if not (low < middle < high):
        return np.zeros(len(wide))
    # Normal quantiles at .1, .35, .6: the shift makes the logarithm's quantiles lie in the same proportion.
    z_low, z_middle, z_high = -1.2816, -0.3853, 0.2533
    shift = _shift(low, middle, high, (z_high - z_middle) / (z_middle - z_low))
    level = np.log(np.maximum(wide - shift, 1e-9 * (high - low)))
    a, b = log(low - shift), log(high - shift)
    slope = (b - a) / (z_high - z_low)
    scaled: NDArray[np.float64] = (level - a) / slope + z_low
    return scaled


def _shift(low: float, middle: float, high: float, wanted: float) -> float:
    """The shift t, under the smallest scores, for which log(score - t) has the wanted proportion;
    bisection.
    """
    width = high - low
    near, far = 0.15 * width, 1e3 * width  # from strongly skewed to not at all
    for _ in range(60):
        gap = sqrt(near * far)
        t = low - gap
        got = (log(high - t) - log(middle - t)) / (log(middle - t) - log(low - t))
        near, far = (near, gap) if got > wanted else (gap, far)
    return low - sqrt(near * far)


def fit_mixture(z: NDArray[np.float64], weights: NDArray[np.float64]) -> Mixture:
    """EM from several starts, the best likelihood. `weights` sum to the number of things, not of images."""
    total = float(weights.sum())
    mean, spread = _moments(z, weights)
    one = Mixture(0.0, (mean, spread), (mean, spread), 0.0)
    if total < FEWEST or spread <= 0:
        return one
    single = float(weights @ np.log(_density(z, mean, spread) + 1e-300))
    fits = [_em(z, weights, Mixture(0.1, (0.0, 1.0), (start, 1.0), 0.0)) for start in (1.5, 2.5, 4.0)]
    gains = [2 * (_log_likelihood(z, weights, fit) - single) - 3 * log(total) for fit in fits]
    best = int(np.argmax(gains))
    if gains[best] <= 0:
        return one
    return replace(fits[best], bic_gain=gains[best])


def _em(z: NDArray[np.float64], weights: NDArray[np.float64], start: Mixture, turns: int = 150) -> Mixture:
    fit, total = start, float(weights.sum())
    for _ in range(turns):
        p = fit._posterior(z)
        if float(weights @ p) < 0.5:
            return fit  # less than half a thing is left in the odd part
        share = min(float(weights @ p) / total, _MOST)
        normal = _moments(z, weights * (1 - p))
        # The transform put the normal part near (0, 1); a part far from it, or an odd part inside it, is
        # not it.
        normal = (float(np.clip(normal[0], -0.5, 0.5)), float(np.clip(normal[1], 0.6, 1.2)))
        odd = _moments(z, weights * p)
        fit = Mixture(share, normal, (max(odd[0], normal[0] + 1.5 * normal[1]), max(odd[1], 0.3)), 0.0)
    return fit


def _moments(z: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    mass = float(weights.sum())
    mean = float(weights @ z) / mass
    return mean, sqrt(float(weights @ (z - mean) ** 2) / mass)


def _log_likelihood(z: NDArray[np.float64], weights: NDArray[np.float64], fit: Mixture) -> float:
    mixed = fit.share * _density(z, *fit.odd) + (1 - fit.share) * _density(z, *fit.normal)
    return float(weights @ np.log(mixed + 1e-300))


def storey(z: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """1 - share of nulls, from the tail probabilities above one half."""
    tail = upper_tail(z)
    nulls = float(weights @ (tail > 0.5)) / (0.5 * float(weights.sum()))
    return float(np.clip(1 - nulls, 0.0, _MOST))


def tail_excess(z: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Share of things beyond the point where the normal part should hold one in a hundred, less that one."""
    beyond = float(weights @ (z > 2.3263)) / float(weights.sum())
    return float(np.clip(beyond - 0.01, 0.0, _MOST))


def asymmetry(scores: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    """Most mass by which the upper side outweighs the lower at any distance from the median.

    An upper bound rather than an estimate: it puts all skewness down to contamination.
    """
    wide = scores.astype(np.float64)
    offset = wide - _quantile(wide, weights, 0.5)
    order = np.argsort(np.abs(offset), kind="stable")[::-1]
    signed = np.cumsum((np.sign(offset) * weights)[order]) / weights.sum()
    return float(np.clip(signed.max(initial=0.0), 0.0, _MOST))


def upper_tail(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(Z > z) of a standard normal."""
    return np.array([0.5 - 0.5 * erf(value / sqrt(2)) for value in z])


def _density(z: NDArray[np.float64], mean: float, spread: float) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * ((z - mean) / spread) ** 2) / (spread * sqrt(2 * pi))
    return density


def _quantile(values: NDArray[np.float64], weights: NDArray[np.float64], q: float) -> float:
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(q * weights.sum(), mass, values[order]))
