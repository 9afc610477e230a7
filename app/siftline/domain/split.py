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
    Values,
    asymmetry,
    evidence_of,
    fit_mixture,
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
    values = scores.values[order].astype(np.float64)
    member = (
        np.unique(np.asarray(groups)[order], return_inverse=True)[1] if groups is not None else np.arange(n)
    )
    weights = (1 / np.bincount(member))[member]
    fit = fit_mixture(values, weights)
    draws = _bootstrap(values, weights, member, seed)
    contamination = _contamination(fit, draws, values, weights, prior)
    assumed = _TAIL_PRIOR if prior is None else prior
    p = _probability(fit, values, contamination.evidence, assumed)[back]
    drawn = np.stack([_probability(d, values, contamination.evidence, assumed) for d in draws])[:, back]
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


def _probability(fit: Mixture, values: Values, evidence: Evidence, assumed: float) -> Values:
    """(N,) P(anomalous); without evidence that of a thin, far tail of `assumed` weight."""
    if evidence == "none" or fit.share <= 0:
        fit = Mixture(fit.shift, fit.centre, fit.spread, min(max(assumed, 1e-4), 0.05))
    return fit.p_anomalous(values)


def _bootstrap(values: Values, weights: Values, member: NDArray[np.int64], seed: int) -> list[Mixture]:
    """Fits to resampled things; a thing's photographs stay together."""
    random = np.random.default_rng(seed)
    things = int(member.max()) + 1
    fits = []
    for _ in range(_DRAWS):
        times = np.bincount(random.integers(0, things, things), minlength=things)
        drawn = times[member] > 0
        fits.append(fit_mixture(values[drawn], (weights * times[member])[drawn]))
    return fits


def _contamination(
    fit: Mixture, draws: list[Mixture], values: Values, weights: Values, prior: float | None
) -> Contamination:
    z = fit.z(values)
    methods = {
        "mixture": fit.share,
        "storey": storey(z, weights),
        "tail": tail_excess(z, weights),
        "asymmetry": asymmetry(values, weights),
    }
    shares = np.array([draw.share for draw in draws])
    evidence = evidence_of(fit, draws)
    estimate = 0.0 if evidence == "none" else fit.share
    low = 0.0 if evidence == "none" else min(estimate, float(np.quantile(shares, 0.1)))
    # What hides among the normal scores is not in the mixture's share; asymmetry bounds it.
    ends = [
        estimate + methods["asymmetry"],
        estimate if evidence == "none" else float(np.quantile(shares, 0.9)),
    ]
    if prior is not None:
        low, ends = min(low, prior), [*ends, prior]
    return Contamination(estimate, (low, min(max(ends), 0.5)), evidence, methods)


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
