"""Evidence from several scales: what only one of them says does not count as much as what all say."""

import numpy as np
import pytest

from siftline.domain.contamination import fit_mixture
from siftline.domain.scales import WITNESSES, on_scales
from siftline.domain.scores import ScoredImages
from siftline.domain.split import decide

N = 400


def _scored(values: np.ndarray) -> ScoredImages:
    return ScoredImages(tuple(f"i{n:04d}" for n in range(len(values))), values.astype(np.float32))


def _normal(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(6.0, size=n)


def test_a_tail_on_one_scale_alone_is_less_evidence_than_the_same_tail_on_both() -> None:
    ordinary, tailed = _normal(N, 0), _normal(N, 0)
    tailed[np.argsort(tailed)[-20:]] *= 2.0
    one, both = [
        decide(_scored(tailed), dict(zip(WITNESSES, map(_scored, scales), strict=True))).contamination
        for scales in ([ordinary, tailed], [tailed, tailed])
    ]
    strength = ("none", "weak", "strong").index
    assert strength(one.evidence) < strength(both.evidence)
    assert one.methods["mixture"] < both.methods["mixture"]


def test_a_scale_keeps_the_order_of_the_scores_and_the_values_of_the_witness() -> None:
    scores, witness = _normal(N, 1), np.exp(_normal(N, 2))
    (scaled,) = on_scales(_scored(scores), {"llbnad": _scored(witness)}, np.arange(N))
    assert (np.argsort(scaled) == np.argsort(scores.astype(np.float32))).all()
    np.testing.assert_allclose(np.sort(scaled), np.sort(witness.astype(np.float32)), rtol=1e-6)


def test_without_a_witness_the_scores_are_their_own_scale() -> None:
    scores = _scored(_normal(N, 3))
    (scaled,) = on_scales(scores, {"padim": scores}, np.arange(N))
    assert (scaled == scores.values).all()


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_many_anomalies_do_not_hide_behind_the_normal_part_they_widened(share: float) -> None:
    bad = int(share * 1000)
    values = np.r_[_normal(1000 - bad, 4), 22 + 3 * np.random.default_rng(5).normal(size=bad)]
    assert fit_mixture(values, np.ones(1000)).share == pytest.approx(share, abs=0.03)


def test_an_image_is_suspect_when_its_upper_end_is_above_the_bar() -> None:
    values = np.r_[_normal(300, 6), 22 + 4 * np.random.default_rng(7).normal(size=60)]
    split = decide(_scored(values), {})
    assert split.contamination.evidence != "none"
    suspect = np.array([verdict == "suspect" for verdict in split.verdict])
    assert (suspect == (split.interval[:, 1] > np.float32(0.2))).all()
    doubtful = suspect & (split.p_anomalous <= 0.2)
    assert doubtful.any()
    assert split.needs_review[doubtful].all()
