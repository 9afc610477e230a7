"""How much of a set is anomalous, from its scores alone: a mixture, cross-checked, as an interval.

The normal part of any anomaly score is skewed, so it is modelled as a shifted lognormal, and what lies
above it as a second lognormal on the same shift:
- EM for both parts at each of several shifts, the best likelihood counts, and BIC says whether the second
  part earns its parameters: in the spirit of gammaGMM (Perini et al., ICML 2023, arXiv 2210.10487);
- the same with a normal part read off the lower quantiles alone, which contamination hardly reaches: it sees
  anomalies that form no hill of their own, but also the odd ends of a clean set, so it counts as weak
  evidence;
- Storey's estimate of the share of nulls (Storey, JRSS B 2002) from the normal part's tail probabilities;
- the tail beyond the normal part's 99 %, as peaks over threshold count it (Siffer et al., KDD 2017);
- the asymmetry of the scores about their median, an upper bound.
Photographs of one thing count once, or six pictures of one odd part would look like six odd parts.

What people decided is known truth: in EM those images belong to the part they were said to belong to (as in
learning from labelled and unlabelled data together, Nigam et al. 2000). That stays right although people look
at the suspects first, as long as they choose by what the score says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log, pi, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Evidence = Literal["none", "weak", "strong"]
Values = NDArray[np.float64]

FEWEST = 20  # things; below that no shape of a distribution can be told
_MOST = 0.5  # a majority cannot be the anomaly
_BINS = 400
_BAR = 24  # of BIC gain
_CLOSEST = 0.2  # the shift's distance below the tenth percentile, in widths of the lower half


@dataclass(frozen=True, slots=True)
class Contamination:
    """Share of anomalous images in the set."""

    estimate: float
    interval: tuple[float, float]
    """80 %; its upper end is a bound, for what hides among normal scores leaves no trace."""
    evidence: Evidence
    methods: dict[str, float]
    """Each estimator's own answer."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """z = (log(score - shift) - centre) / spread is N(0, 1) for normal things, N(*odd) for a `share` of
    all.
    """

    shift: float
    centre: float
    spread: float
    share: float = 0.0
    odd: tuple[float, float] = (4.0, 1.5)
    """Mean and standard deviation of z."""
    bic_gain: float = 0.0
    """BIC of one part less BIC of two. Kass and Raftery (JASA 1995) call 10 very strong, for a normal part
    that is exactly right; see `evidence`.
    """

    def z(self, scores: Values) -> Values:
        """(N,) scores on the normal part's own scale. Zeros when the scores do not vary."""
        if self.spread <= 0:
            return np.zeros(len(scores))
        scaled: Values = (_log_above(scores, self.shift) - self.centre) / self.spread
        return scaled

    def p_anomalous(self, scores: Values) -> Values:
        """Local false discovery rate turned round (Efron 2004): P(anomalous | score), never falling."""
        z = self.z(scores)
        if self.share <= 0 or not z.any():
            return np.zeros(len(z))
        grid = np.linspace(min(-4.0, float(z.min())), max(8.0, float(z.max())), 2048)
        odd = self.share * _density(grid, *self.odd)
        p = odd / (odd + (1 - self.share) * _density(grid, 0.0, 1.0) + 1e-300)
        p[grid < 0] = 0.0  # a wide odd part would claim the very lowest scores too
        return np.interp(z, grid, np.maximum.accumulate(p))


@dataclass(frozen=True, slots=True)
class Mixtures:
    """One mixture a scale. What they say is averaged, their gains too: signals that look at the same images
    are one witness heard several times (a composite likelihood; Varin et al., Statistica Sinica 2011).
    """

    parts: tuple[Mixture, ...]

    @property
    def share(self) -> float:
        return float(np.mean([part.share for part in self.parts]))

    @property
    def bic_gain(self) -> float:
        return float(np.mean([part.bic_gain for part in self.parts]))

    def z(self, scales: Sequence[Values]) -> list[Values]:
        return [part.z(scores) for part, scores in zip(self.parts, scales, strict=True)]

    def p_anomalous(self, scales: Sequence[Values]) -> Values:
        """(N,) of images whose scores are given on each scale, in one order."""
        each = [part.p_anomalous(scores) for part, scores in zip(self.parts, scales, strict=True)]
        p: Values = np.mean(each, axis=0)
        return p


def fit_mixtures(scales: Sequence[Values], weights: Values, truth: Values) -> Mixtures:
    """`fit_mixture` on each scale."""
    return Mixtures(tuple(fit_mixture(scores, weights, truth) for scores in scales))


def fit_mixture(scores: Values, weights: Values, truth: Values | None = None) -> Mixture:
    """The mixture of `scores` (N,), whose `weights` sum to the number of things.

    `truth` (N,): 1 known to be anomalous, 0 known not to be, NaN unknown. The normal part is held where the
    quantiles at .1, .35 and .6 of what may be normal put it: fitted freely it widens until it has swallowed
    the anomalies it should stand out from. With many anomalies those quantiles are themselves too high, so
    where a second part is evident they are read once more without what it takes for odd. The gain stays the
    first reading's.
    """
    truth = np.full(len(scores), np.nan) if truth is None else truth
    null = _normal_part(scores, weights * (truth != 1))
    if null is None:
        return Mixture(0.0, 0.0, 0.0)
    binned = _binned(scores, weights, truth)
    first = _with_odd_part(null, *binned)
    if first.bic_gain <= _BAR:
        return first
    odd = np.where(np.isnan(truth), first.p_anomalous(scores), truth)
    again = _normal_part(scores, weights * (1 - odd))
    second = first if again is None else _with_odd_part(again, *binned)
    return replace(second, bic_gain=first.bic_gain) if second.share > 0 else first


def _normal_part(scores: Values, weights: Values) -> Mixture | None:
    """The shifted lognormal through three lower quantiles; None where there is too little to read them."""
    some = weights > 0
    if not some.any():
        return None
    low, middle, high = (_quantile(scores[some], weights[some], q) for q in (0.1, 0.35, 0.6))
    if not low < middle < high:
        return None
    shift = _shift(low, middle, high, (0.2533 + 0.3853) / (1.2816 - 0.3853))
    spread = (log(high - shift) - log(low - shift)) / (0.2533 + 1.2816)
    return Mixture(shift, log(low - shift) + 1.2816 * spread, spread)


def _with_odd_part(null: Mixture, values: Values, mass: Values, known: Values) -> Mixture:
    """`null` with the second part that gains most; as it is where none gains anything."""
    total = float(mass.sum())
    if total < FEWEST:
        return Mixture(0.0, 0.0, 0.0)
    z = null.z(values)
    normal = _density(z, 0.0, 1.0)
    single = float(mass @ np.log(normal + 1e-300))
    confirmed = bool((known == 1).any())
    best = null
    for start in (1.5, 2.5, 4.0):
        share, odd = _em(z, mass, normal, (start, 1.0), known)
        above, below = share * _density(z, *odd), (1 - share) * normal
        mixed = np.where(known == 1, above, np.where(known == 0, below, above + below))
        gain = 2 * (float(mass @ np.log(mixed + 1e-300)) - single) - 3 * log(total)
        # With an anomaly confirmed there is a second part, however little is gained by it.
        if gain > best.bic_gain or (confirmed and best is null):
            best = replace(null, share=share, odd=odd, bic_gain=gain)
    return best


def _em(
    z: Values, mass: Values, normal: Values, odd: tuple[float, float], known: Values
) -> tuple[float, tuple[float, float]]:
    """Share, mean and spread of the odd part beside a `normal` density that stays."""
    total, share = float(mass.sum()), 0.1
    decided, confirmed = ~np.isnan(known), bool((known == 1).any())
    for _ in range(150):
        above = share * _density(z, *odd)
        p = above / (above + (1 - share) * normal + 1e-300)
        p[decided] = known[decided]
        odd_things = float(mass @ p)
        if odd_things < 0.5 and not confirmed:  # less than half a thing is left above
            break
        before, share = share, min(odd_things / total, _MOST)
        mean, width = _moments(z, mass * p)
        odd = (max(mean, 1.0), max(width, 0.3))
        if abs(share - before) < 1e-5:
            break
    return share, odd


def _shift(low: float, middle: float, high: float, wanted: float) -> float:
    """The shift t for which log(score - t) has its three quantiles in the wanted proportion; bisection."""
    width = high - low
    near, far = _CLOSEST * width, 1e3 * width
    for _ in range(60):
        t = low - sqrt(near * far)
        got = (log(high - t) - log(middle - t)) / (log(middle - t) - log(low - t))
        near, far = (near, low - t) if got > wanted else (low - t, far)
    return low - sqrt(near * far)


def evidence_of(gains: Sequence[float]) -> Evidence:
    """What the gains of a second part on resampled things say together.

    A lognormal is only nearly right: of the odd ends of 45 clean sets (real ones, and parts of them) up to
    .42 of the resampled sets gained more than the bar; of 27 contaminated ones at least .5, but for one
    (benchmarks/LOG.md). The textbook calls 10 very strong.
    """
    found = sum(gain > _BAR for gain in gains) / max(len(gains), 1)
    if found < 0.5:
        return "none"
    return "strong" if found >= 0.8 else "weak"


def storey(z: Values, weights: Values) -> float:
    """1 - share of nulls, from how many things lie in the lower half of the normal part."""
    nulls = float(weights @ (z < 0)) / (0.5 * float(weights.sum()))
    return float(np.clip(1 - nulls, 0.0, _MOST))


def tail_excess(z: Values, weights: Values) -> float:
    """Share of things beyond the point where the normal part should hold one in a hundred, less that one."""
    beyond = float(weights @ (z > 2.3263)) / float(weights.sum())
    return float(np.clip(beyond - 0.01, 0.0, _MOST))


def asymmetry(scores: Values, weights: Values) -> float:
    """Most mass by which the upper side outweighs the lower at any distance from the median.

    An upper bound rather than an estimate: it puts all skewness down to contamination.
    """
    offset = scores - _quantile(scores, weights, 0.5)
    order = np.argsort(np.abs(offset), kind="stable")[::-1]
    signed = np.cumsum((np.sign(offset) * weights)[order]) / weights.sum()
    return float(np.clip(signed.max(initial=0.0), 0.0, _MOST))


def mean_asymmetry(scales: Sequence[Values], weights: Values) -> float:
    """`asymmetry`, averaged over the scales."""
    return float(np.mean([asymmetry(scores, weights) for scores in scales]))


def _binned(scores: Values, weights: Values, truth: Values) -> tuple[Values, Values, Values]:
    """At most 400 values of each kind of truth, their masses and that truth: a fit costs the same for any
    set.
    """
    kinds = [np.isnan(truth), truth == 0, truth == 1]
    parts = [(*_bins(scores[kind], weights[kind]), truth[kind][:1]) for kind in kinds if kind.any()]
    return (
        np.concatenate([values for values, _, _ in parts]),
        np.concatenate([mass for _, mass, _ in parts]),
        np.concatenate([np.repeat(known, len(values)) for values, _, known in parts]),
    )


def _bins(scores: Values, weights: Values) -> tuple[Values, Values]:
    order = np.argsort(scores, kind="stable")
    edges = np.unique(np.linspace(0, len(scores), min(_BINS, len(scores)) + 1).astype(np.int64))
    mass = np.add.reduceat(weights[order], edges[:-1])
    return np.add.reduceat((scores * weights)[order], edges[:-1]) / mass, mass


def _log_above(scores: Values, shift: float) -> Values:
    above: Values = np.log(np.maximum(scores - shift, 1e-6 * max(abs(shift), 1e-12)))
    return above


def _moments(values: Values, weights: Values) -> tuple[float, float]:
    mass = max(float(weights.sum()), 1e-12)
    mean = float(weights @ values) / mass
    return mean, max(sqrt(float(weights @ (values - mean) ** 2) / mass), 1e-9)


def _density(values: Values, mean: float, spread: float) -> Values:
    density: Values = np.exp(-0.5 * ((values - mean) / spread) ** 2) / (spread * sqrt(2 * pi))
    return density


def _quantile(values: Values, weights: Values, q: float) -> float:
    order = np.argsort(values, kind="stable")
    mass = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(q * weights.sum(), mass, values[order]))
