"""Clean or suspect: a probability with an interval for every image, and a cut by expected cost.

numpy and the standard library only, so that the service can move the cut without a GPU, torch or scipy.
Rules: an image is dropped when keeping it is expected to cost more than losing it (`cost_ratio` : 1, so 4
drops above p = .2); never more than half; and where there is no evidence of contamination only the extreme
tail goes. A prior the user gives is a hint, echoed back: it widens the interval, it never becomes a fixed
fraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from siftline.domain.contamination import (
    FEWEST,
    Contamination,
    Evidence,
    Mixture,
    asymmetry,
    fit_mixture,
    normal_scale,
    storey,
    tail_excess,
)
from siftline.domain.scores import ImageId, ScoredImages

Verdict = Literal["clean", "suspect"]

_DRAWS = 40  # bootstrap draws: enough for an 80 % interval
_TAIL_SHARE = 0.02  # of a set without evidence of contamination: the most that the tail rule drops
_TAIL_PRIOR = 0.01
_TRUSTED = 60  # things; probabilities of smaller sets are marked uncertain (methods-reference 4.5)


@dataclass(frozen=True, slots=True)
class Cut:
    """Images with a score above `score` are suspect."""

    score: float
    rule: str
    uncertain: bool
    """The estimators disagree, or the set is too small: look at the ranking, not at the cut."""


@dataclass(frozen=True, slots=True)
class Split:
    """Everything by position in `ids`."""

    ids: tuple[ImageId, ...]
    p_anomalous: NDArray[np.float32]
    """(N,)"""
    interval: NDArray[np.float32]
    """(N, 2): 80 % interval of p_anomalous."""
    verdict: tuple[Verdict, ...]
    needs_review: NDArray[np.bool_]
    """(N,): the verdict could be the other one within the interval, or the signals disagree on it."""
    confidence: NDArray[np.float32]
    """(N,): probability that the verdict is right."""
    contamination: Contamination
    cut: Cut
    prior: float | None
    """The user's own expectation, echoed."""


def decide(
    scores: ScoredImages,
    signals: Mapping[str, ScoredImages],
    *,
    cost_ratio: float = 4.0,
    prior: float | None = None,
    groups: Sequence[int] | None = None,
    seed: int = 0,
) -> Split:
    """Split N scored images. `groups`: same number = photographs of one thing (none: all different).

    ValueError for no image, a cost ratio that is not positive, a prior outside 0..0.5, or groups of another
    length.
    """
    n = len(scores.ids)
    _check(n, cost_ratio, prior, groups)
    order = np.argsort(np.array(scores.ids, dtype=np.str_))
    back = np.argsort(order)
    values = scores.values[order]
    member = (
        np.unique(np.asarray(groups)[order], return_inverse=True)[1] if groups is not None else np.arange(n)
    )
    weights = (1 / np.bincount(member))[member]
    fit = _Fit.of(values, weights)
    draws = _bootstrap(values, weights, member, seed)
    contamination = _contamination(fit, draws, values, weights, prior)
    assumed = _TAIL_PRIOR if prior is None else prior
    p = fit.p(contamination.evidence, assumed)[back]
    drawn = np.stack([draw.p_at(fit, contamination.evidence, assumed) for draw in draws])[:, back]
    low = np.minimum(np.quantile(drawn, 0.1, axis=0), p)
    high = np.maximum(np.quantile(drawn, 0.9, axis=0), p)
    cut = _cut(scores.values, p, cost_ratio, contamination, float(weights.sum()))
    verdict = verdicts(scores, cut.score)
    suspect = np.array([v == "suspect" for v in verdict], dtype=bool)
    bar = 1 / (1 + cost_ratio)
    torn = (low <= bar) & (high > bar)
    return Split(
        scores.ids,
        p.astype(np.float32),
        np.stack([low, high], axis=1).astype(np.float32),
        verdict,
        torn | (suspect & (p < 0.5)) | _disputed(scores, signals, suspect),
        np.where(suspect, p, 1 - p).astype(np.float32),
        contamination,
        cut,
        prior,
    )


def verdicts(scores: ScoredImages, cut_score: float) -> tuple[Verdict, ...]:
    """The verdicts at another cut: suspect strictly above it."""
    return tuple("suspect" if value > cut_score else "clean" for value in scores.values)


def _check(n: int, cost_ratio: float, prior: float | None, groups: Sequence[int] | None) -> None:
    if n == 0:
        raise ValueError("there is nothing to split")
    if not cost_ratio > 0 or not np.isfinite(cost_ratio):
        raise ValueError(f"the cost ratio must be positive, not {cost_ratio}")
    if prior is not None and not 0 <= prior <= 0.5:
        raise ValueError(f"a prior contamination must be between 0 and 0.5, not {prior}")
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} images")


@dataclass(frozen=True, slots=True)
class _Fit:
    """A mixture and the scores it was fitted to, on the normal scale."""

    z: NDArray[np.float64]
    mixture: Mixture

    @classmethod
    def of(cls, values: NDArray[np.float32], weights: NDArray[np.float64]) -> _Fit:
        z = normal_scale(values, weights)
        return cls(z, fit_mixture(z, weights))

    def p(self, evidence: Evidence, assumed: float) -> NDArray[np.float64]:
        """(N,) probabilities; without evidence those of a thin, far tail of `assumed` weight."""
        return self.p_at(self, evidence, assumed)

    def p_at(self, points: _Fit, evidence: Evidence, assumed: float) -> NDArray[np.float64]:
        """The same by this fit's mixture at another fit's images."""
        if not points.z.any():
            return np.zeros(len(points.z))
        if evidence == "none" or self.mixture.share <= 0:
            tail = Mixture(min(max(assumed, 1e-4), 0.05), (0.0, 1.0), (4.0, 1.5), 0.0)
            return tail.p_anomalous(points.z)
        return self.mixture.p_anomalous(points.z)


def _bootstrap(
    values: NDArray[np.float32], weights: NDArray[np.float64], member: NDArray[np.int64], seed: int
) -> list[_Fit]:
    """Fits to resampled things; a thing's photographs stay together."""
    random = np.random.default_rng(seed)
    things = int(member.max()) + 1
    fits = []
    for _ in range(_DRAWS):
        times = np.bincount(random.integers(0, things, things), minlength=things)
        drawn = times[member] > 0
        fits.append(_Fit.of(values[drawn], (weights * times[member])[drawn]))
    return fits


def _contamination(
    fit: _Fit,
    draws: list[_Fit],
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    prior: float | None,
) -> Contamination:
    methods = {
        "mixture": fit.mixture.share,
        "storey": storey(fit.z, weights),
        "tail": tail_excess(fit.z, weights),
        "asymmetry": asymmetry(values, weights),
    }
    shares = np.array([draw.mixture.share for draw in draws])
    found = float(np.mean([draw.mixture.bic_gain > 2 for draw in draws]))
    evidence: Evidence = "none"
    if fit.mixture.bic_gain > 2 and found >= 0.5:
        evidence = "strong" if fit.mixture.bic_gain > 10 and found >= 0.8 else "weak"
    estimate = 0.0 if evidence == "none" else fit.mixture.share
    # What hides among the normal scores is not in the mixture's share; asymmetry bounds it from above.
    ends = [estimate, float(np.quantile(shares, 0.9)), methods["asymmetry"]]
    low = 0.0 if evidence == "none" else min(estimate, float(np.quantile(shares, 0.1)))
    if prior is not None:
        low, ends = min(low, prior), [*ends, prior]
    return Contamination(estimate, (low, max(ends)), evidence, methods)


def _cut(
    scores: NDArray[np.float32],
    p: NDArray[np.float64],
    cost_ratio: float,
    contamination: Contamination,
    things: float,
) -> Cut:
    """Drop where expected cost says so, within what the evidence allows."""
    bar = 1 / (1 + cost_ratio)
    most = 0.5 if contamination.evidence != "none" else _TAIL_SHARE
    if things < FEWEST:
        return Cut(float(scores.max()), "too few images to judge: nothing is dropped", uncertain=True)
    descending = np.sort(scores)[::-1]
    allowed = descending[int(most * len(scores))]  # the first score that must stay
    kept = scores[p <= bar]
    score = max(float(kept.max()) if len(kept) else -np.inf, float(allowed))
    rule = f"expected cost: suspect where p > {bar:.2g}"
    if contamination.evidence == "none":
        rule = f"no evidence of contamination: only the extreme tail, at most {_TAIL_SHARE:.0%}"
    shares = [contamination.methods[name] for name in ("mixture", "tail")]
    disagree = max(shares) > 2 * min(shares) and max(shares) - min(shares) > 0.05
    return Cut(score, rule, uncertain=bool(disagree or things < _TRUSTED or contamination.evidence == "weak"))


def _disputed(
    scores: ScoredImages, signals: Mapping[str, ScoredImages], suspect: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(N,): fewer than half of the signals, cut to drop as many images, would give the image's verdict."""
    dropped = int(suspect.sum())
    if not signals or dropped == 0:
        return np.zeros(len(suspect), bool)
    votes = np.zeros(len(suspect))
    for signal in signals.values():
        values = signal.aligned_to(scores.ids)
        votes += values > np.sort(values)[::-1][dropped]
    share = votes / len(signals)
    return np.where(suspect, share < 0.5, share > 0.5)
