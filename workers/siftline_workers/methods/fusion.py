"""Several signals to one score per image, and one heat map.

Each signal is put on a robust scale and its far tail is compressed, so that no single signal can decide alone
(rank-stable: the order changes continuously with any one signal). Near-duplicates then share their evidence:
photographs of one thing are repeated measurements of one question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siftline.domain.scales import on_scale, shared
from siftline.domain.scores import ScoredImages
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.pooling import robust_z

# Two votes with an equal say: distances to patches of other subsets' images, and what is normal at a place.
# The plainest distance adds nothing to the first. Spread ranks little better than chance (.6 AUROC,
# benchmarks/LOG.md): worth showing, not a vote. A head trained on pseudo-labels repeats their mistakes.
VOTES: Mapping[str, float] = {
    "neighbours": 0.0, "llbnad": 1.0, "llbnad_spread": 0.0, "padim": 1.0, "funad": 0.25,
}  # fmt: skip

# The signal whose scale the fused score keeps, for people to read: distances, in robust standard deviations.
# What is concluded from it uses several scales (`siftline.domain.scales`).
SCALE = "neighbours"


@dataclass(frozen=True, slots=True)
class FusedScores:
    """The ranking, and what it was made of."""

    scores: ScoredImages
    signals: dict[str, ScoredImages]
    """Each signal on a robust scale: 0 = the set's median, 1 = one robust standard deviation."""


def fuse(
    signals: Mapping[str, ScoredImages], groups: NearDuplicates, votes: Mapping[str, float] = VOTES
) -> FusedScores:
    """Weighted mean of the signals, shared among near-duplicates. A signal not named in `votes` has one.

    ValueError for no voting signal or differing image sets.
    """
    weights = [votes.get(name, 1.0) for name in signals]
    if not sum(weights) > 0:
        raise ValueError("no signal to fuse")
    ids = groups.ids
    if any(set(signal.ids) != set(ids) for signal in signals.values()):
        raise ValueError("the signals score different images")
    scaled = {name: robust_z(signal.aligned_to(ids)) for name, signal in signals.items()}
    mean = np.average([_compressed(z) for z in scaled.values()], axis=0, weights=weights)
    reference = scaled.get(SCALE, mean)
    member = np.unique(groups.group, return_inverse=True)[1]
    values = on_scale(shared(mean, member), shared(reference, member), member)
    return FusedScores(
        ScoredImages(ids, values.astype(np.float32)),
        {name: ScoredImages(ids, z) for name, z in scaled.items()},
    )


def heat_maps(patch_scores: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """(patches,) one map over the whole set, 0..1: 0 = a typical patch, 1 = among the set's most unusual.

    Linear, unlike the scores: compressed tails let whole images glow and hide where the defect is.
    """
    if not patch_scores:
        raise ValueError("no patch scores")
    mean: NDArray[np.float32] = np.mean([_linear(scores) for scores in patch_scores.values()], axis=0)
    return mean


def _linear(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 at the set's median, 1 at its highest patch in a thousand; all zeros when those are one."""
    if scores.size == 0:
        return np.zeros(0, np.float32)
    typical, high = np.quantile(scores, (0.5, 0.999))
    if not high > typical:
        return np.zeros(scores.shape, np.float32)
    linear: NDArray[np.float32] = np.clip((scores - typical) / (high - typical), 0, 1).astype(np.float32)
    return linear


def _compressed(z: NDArray[np.float32]) -> NDArray[np.float64]:
    """Identity near zero, logarithmic far out; strictly increasing."""
    return np.arcsinh(z.astype(np.float64) / 2) * 2
