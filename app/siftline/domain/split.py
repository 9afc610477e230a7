"""Clean or suspect: a probability with an interval for every image, and a cut by expected cost.

numpy and the standard library only, so that the service can move the cut without a GPU, torch or scipy.
Rules: an image is dropped when keeping it may be expected to cost more than losing it (`cost_ratio` : 1, so
4 drops where p's upper end is above .2: anomalies that stay do more harm to a memory than their number says,
and what is dropped in doubt is put before people); never more than half; and where scores show no evidence
of contamination only the extreme tail goes, by p itself. A prior the user gives is a hint, echoed back: it
widens the interval, it never becomes a fixed fraction. What a person decided is known: it is never overruled,
and it tells something of the others.
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
    Mixtures,
    Values,
    evidence_of,
    fit_mixtures,
    mean_asymmetry,
    storey,
    tail_excess,
)
from siftline.domain.isotonic import heeding
from siftline.domain.randomness import image_keys, resampled
from siftline.domain.scales import on_scales
from siftline.domain.scores import ImageId, ScoredImages

Verdict = Literal["clean", "suspect"]

_DRAWS = 160  # resampled sets; with 40 the number of suspects still swayed by a third (LOG.md)
_TAIL_SHARE = 0.02  # of a set without evidence of contamination: the most that the tail rule drops
_TAIL_PRIOR = 0.01
_TRUSTED = 60  # things; probabilities of smaller sets are marked uncertain


@dataclass(frozen=True, slots=True)
class Cut:
    """Images with a score above `score` are suspect, unless a person said otherwise."""

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
    decided: Mapping[ImageId, bool] | None = None,
    cut_score: float | None = None,
) -> Split:
    """Split N scored images. `groups`: same number = photographs of one thing (none: all different).

    `decided` says of some images whether a person called them anomalous; images that are not among `scores`
    are passed over. `cut_score` sets the cut for the others instead of the expected cost. ValueError for no
    image, a cost ratio that is not positive, a prior outside 0..0.5, groups of another length, or a cut that
    is no number.
    """
    _check(len(scores.ids), cost_ratio, prior, groups, cut_score)
    # In one order whatever the input's is; by score, because what is sorted is quickly sorted again.
    order = np.lexsort((np.array(scores.ids, dtype=np.str_), scores.values))
    things = _things(scores, signals, order, groups, decided or {})
    fit = fit_mixtures(things.scales, things.weights, things.truth)
    draws = [_fit_again(things, times) for times in resampled(things.keys, seed, _DRAWS)]
    shown = evidence_of([draw.bic_gain for draw in draws])
    contamination = _contamination(fit, draws, things, prior, shown, seed=seed)
    assumed = _TAIL_PRIOR if prior is None else prior
    p, *drawn = (_probability(mixture, things, contamination.evidence, assumed) for mixture in (fit, *draws))
    evident = shown != "none"
    if evident:  # one fit is one guess: what resampled sets say on average is better calibrated (LOG.md)
        p = np.mean(drawn, axis=0)
    low = np.minimum(np.quantile(drawn, 0.1, axis=0), p)
    high = np.maximum(np.quantile(drawn, 0.9, axis=0), p)
    if cut_score is None:
        cut = _cut(things, high if evident else p, cost_ratio, contamination)
    else:
        cut = Cut(cut_score, f"set by a person at {cut_score:.4g}", uncertain=False)
    undecided = np.isnan(things.truth)
    few = things.weights.sum() < FEWEST
    if few:  # nothing was seen, which is not the same as nothing being there
        p, high = np.where(undecided, np.maximum(p, assumed), p), np.where(undecided, 1.0, high)
    suspect = np.where(undecided, things.values > cut.score, things.truth == 1)
    bar = 1 / (1 + cost_ratio)
    torn = (low <= bar) & (high > bar) | (suspect & (p < 0.5))
    ids = tuple(scores.ids[i] for i in order)
    doubtful = few | torn | _disputed(ids, signals, suspect) | _contradicted(things, suspect)
    back = np.argsort(order)
    return Split(
        scores.ids,
        p.astype(np.float32)[back],
        np.stack([low, high], axis=1).astype(np.float32)[back],
        tuple("suspect" if s else "clean" for s in suspect[back]),
        (undecided & doubtful)[back],
        np.where(suspect, p, 1 - p).astype(np.float32)[back],
        contamination,
        cut,
        prior,
    )


def verdicts(scores: ScoredImages, cut_score: float) -> tuple[Verdict, ...]:
    """The verdicts at another cut: suspect strictly above it."""
    return tuple("suspect" if value > cut_score else "clean" for value in scores.values)


def _check(
    n: int,
    cost_ratio: float,
    prior: float | None,
    groups: Sequence[int] | None,
    cut_score: float | None,
) -> None:
    if n == 0:
        raise ValueError("there is nothing to split")
    if not cost_ratio > 0 or not np.isfinite(cost_ratio):
        raise ValueError(f"the cost ratio must be positive, not {cost_ratio}")
    if prior is not None and not 0 <= prior <= 0.5:
        raise ValueError(f"a prior contamination must be between 0 and 0.5, not {prior}")
    if groups is not None and len(groups) != n:
        raise ValueError(f"{len(groups)} groups for {n} images")
    if cut_score is not None and not np.isfinite(cut_score):
        raise ValueError(f"the cut must be a number, not {cut_score}")


@dataclass(frozen=True, slots=True)
class _Things:
    """N images, and which of them show one thing."""

    values: Values
    """(N,) scores."""
    scales: list[Values]
    """(N,) each: the same order with the distribution of each witness."""
    weights: Values
    """(N,): one over the number of photographs of the thing."""
    member: NDArray[np.int64]
    """(N,) number of the thing, from 0."""
    keys: NDArray[np.uint64]
    """(things,): what a thing is drawn by, the least of its images' keys."""
    truth: Values
    """(N,): 1 a person called it anomalous, 0 normal, NaN nobody decided."""


def _things(
    scores: ScoredImages,
    signals: Mapping[str, ScoredImages],
    order: NDArray[np.int64],
    groups: Sequence[int] | None,
    decided: Mapping[ImageId, bool],
) -> _Things:
    ids = tuple(scores.ids[i] for i in order)
    member = np.arange(len(order))
    if groups is not None:
        member = np.unique(np.asarray(groups)[order], return_inverse=True)[1]
    truth = np.array([float(decided[i]) if i in decided else np.nan for i in ids], np.float64)
    values = scores.values[order]
    scales = on_scales(ScoredImages(ids, values), signals, member)
    size = np.bincount(member)
    keys = np.full(len(size), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(keys, member, image_keys(ids, 0, "resampled"))
    return _Things(values.astype(np.float64), scales, (1 / size)[member], member, keys, truth)


def _contradicted(things: _Things, suspect: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N,): a person said the opposite of another photograph of the same thing."""
    said_bad = np.bincount(things.member, things.truth == 1) > 0
    said_good = np.bincount(things.member, things.truth == 0) > 0
    return np.where(suspect, said_good[things.member], said_bad[things.member])


def _probability(fit: Mixtures, things: _Things, evidence: Evidence, assumed: float) -> Values:
    """(N,) P(anomalous); without evidence that of a thin, far tail of `assumed` weight."""
    if evidence == "none" or fit.share <= 0:
        tail = min(max(assumed, 1e-4), 0.05)
        fit = Mixtures(tuple(Mixture(part.shift, part.centre, part.spread, tail) for part in fit.parts))
    p = fit.p_anomalous(things.scales)
    return heeding(p, things.truth, things.values, things.weights)


def _fit_again(things: _Things, times: NDArray[np.int64]) -> Mixtures:
    """The fit to each thing as many `times` (things,) as a resampled set holds it, all its photographs."""
    counted = times[things.member]
    drawn = counted > 0
    scales = [values[drawn] for values in things.scales]
    return fit_mixtures(scales, (things.weights * counted)[drawn], things.truth[drawn])


def _most_unseen(things: _Things, seed: int) -> float:
    """Upper end of what may hide where nothing shows: a bound has a sampling error as an estimate has."""
    drawn = (things.weights * times[things.member] for times in resampled(things.keys, seed, _DRAWS))
    bounds = [mean_asymmetry(things.scales, weights) for weights in drawn if weights.any()]
    return float(np.quantile(bounds, 0.9)) if bounds else 0.5


def _contamination(
    fit: Mixtures, draws: list[Mixtures], things: _Things, prior: float | None, shown: Evidence, *, seed: int
) -> Contamination:
    weights, scaled = things.weights, fit.z(things.scales)
    methods = {
        "mixture": fit.share,
        "storey": float(np.mean([storey(z, weights) for z in scaled])),
        "tail": float(np.mean([tail_excess(z, weights) for z in scaled])),
        "asymmetry": mean_asymmetry(things.scales, weights),
    }
    shares = np.array([draw.share for draw in draws])
    confirmed, cleared = (float(weights[things.truth == word].sum() / weights.sum()) for word in (1, 0))
    # One confirmed anomaly is proof that there are any.
    evidence: Evidence = "strong" if confirmed > 0 else shown
    estimate = 0.0 if evidence == "none" else max(fit.share, confirmed)
    low = 0.0 if evidence == "none" else min(estimate, float(np.quantile(shares, 0.1)))
    # What hides among the normal scores is not in the mixture's share; asymmetry bounds it.
    ends = [
        estimate + methods["asymmetry"],
        _most_unseen(things, seed) if evidence == "none" else float(np.quantile(shares, 0.9)),
    ]
    if prior is not None:
        low, ends = min(low, prior), [*ends, prior]
    if weights.sum() < FEWEST:
        ends.append(0.5)  # nobody could tell
    high = max(min(max(ends), 0.5, 1 - cleared), estimate)
    return Contamination(estimate, (max(low, confirmed), high), evidence, methods)


def _cut(things: _Things, p: Values, cost_ratio: float, contamination: Contamination) -> Cut:
    """Drop where expected cost at `p` says so, within what the evidence allows; people's drops count too."""
    n, scores = float(things.weights.sum()), things.values
    if n < FEWEST:
        return Cut(float(scores.max()), "too few images to judge: nothing is dropped", uncertain=True)
    bar = 1 / (1 + cost_ratio)
    undecided = np.isnan(things.truth)
    most = 0.5 if contamination.evidence != "none" else _TAIL_SHARE
    quota = max(int(most * len(scores)) - int((things.truth == 1).sum()), 0)
    descending = np.sort(scores[undecided])[::-1]
    # The first score that must stay, and the last one that should.
    allowed = float(descending[quota]) if quota < len(descending) else float(scores.min())
    kept = scores[undecided & (p <= bar)]
    score = max(float(kept.max()) if len(kept) else -np.inf, allowed)
    rule = f"expected cost: suspect where p may be above {bar:.2g}"
    if contamination.evidence == "none":
        rule = f"no evidence of contamination: only the extreme tail, at most {_TAIL_SHARE:.0%}"
    shares = [contamination.methods[name] for name in ("mixture", "tail")]
    disagree = max(shares) > 2 * min(shares) and max(shares) - min(shares) > 0.05
    return Cut(score, rule, uncertain=bool(disagree or n < _TRUSTED or contamination.evidence == "weak"))


def _disputed(
    ids: tuple[ImageId, ...], signals: Mapping[str, ScoredImages], suspect: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(N,): fewer than half of the signals, cut to drop as many images, would give the image's verdict."""
    dropped = int(suspect.sum())
    if not signals or dropped in (0, len(suspect)):
        return np.zeros(len(suspect), bool)
    votes = np.zeros(len(suspect))
    for signal in signals.values():
        values = signal.aligned_to(ids)
        votes += values > np.sort(values)[::-1][dropped]
    share = votes / len(signals)
    return np.where(suspect, share < 0.5, share > 0.5)
