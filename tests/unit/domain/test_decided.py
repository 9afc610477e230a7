"""What people decided: never overruled, counted in the contamination, and heeded for what lies near."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from siftline.domain.isotonic import heeding
from siftline.domain.scores import ScoredImages
from siftline.domain.split import Split, decide

N, BAD = 600, 60


def _mixed(seed: int = 0) -> ScoredImages:
    """The last 60 of 600 are anomalous, most of them far out."""
    random = np.random.default_rng(seed)
    values = np.concatenate([random.gamma(6.0, size=N - BAD), 19 + 4 * random.normal(size=BAD)])
    return ScoredImages(tuple(f"i{n:05d}" for n in range(N)), values.astype(np.float32))


SCORES = _mixed()
TRUTH = {image_id: i >= N - BAD for i, image_id in enumerate(SCORES.ids)}


def _known(positions: list[int]) -> dict[str, bool]:
    return {SCORES.ids[i]: TRUTH[SCORES.ids[i]] for i in positions}


def _suspects(split: Split) -> set[str]:
    return {i for i, verdict in zip(split.ids, split.verdict, strict=True) if verdict == "suspect"}


def test_without_a_decision_nothing_changes() -> None:
    plain = decide(SCORES, {"a": SCORES})
    for nothing in ({}, {"no such image": True}):
        heeded = decide(SCORES, {"a": SCORES}, decided=nothing)
        assert (heeded.p_anomalous == plain.p_anomalous).all()
        assert (heeded.interval == plain.interval).all()
        assert (heeded.needs_review == plain.needs_review).all()
        assert (heeded.verdict, heeded.cut, heeded.contamination) == (
            plain.verdict,
            plain.cut,
            plain.contamination,
        )


def test_a_decision_is_certain_and_never_overruled() -> None:
    best, worst = SCORES.ranking()[-1], SCORES.ranking()[0]
    split = decide(SCORES, {"a": SCORES}, decided={best: True, worst: False})
    for image_id, bad in ((best, True), (worst, False)):
        i = split.ids.index(image_id)
        assert split.verdict[i] == ("suspect" if bad else "clean")
        assert split.p_anomalous[i] == float(bad)
        assert split.interval[i].tolist() == [float(bad)] * 2
        assert split.confidence[i] == 1
        assert not split.needs_review[i]


def test_when_all_is_decided_the_contamination_is_known() -> None:
    split = decide(SCORES, {"a": SCORES}, decided=TRUTH)
    assert split.contamination.estimate == pytest.approx(BAD / N)
    assert split.contamination.interval == pytest.approx((BAD / N, BAD / N))
    assert _suspects(split) == {i for i, bad in TRUTH.items() if bad}
    everything = decide(SCORES, {"a": SCORES}, decided=dict.fromkeys(SCORES.ids, True))
    assert everything.contamination.estimate == 1
    assert len(_suspects(everything)) == N


def test_confirmed_images_bound_the_contamination_on_both_sides() -> None:
    some_bad, some_good = list(range(N - 30, N)), list(range(300))
    low, high = decide(SCORES, {}, decided=_known(some_bad + some_good)).contamination.interval
    assert low >= 30 / N
    assert high <= 1 - 300 / N


def test_one_confirmed_anomaly_is_evidence_that_a_set_without_any_did_not_show() -> None:
    random = np.random.default_rng(3)
    clean = ScoredImages(SCORES.ids, random.gamma(6.0, size=N).astype(np.float32))
    assert decide(clean, {}).contamination.evidence == "none"
    heeded = decide(clean, {}, decided={clean.ranking()[0]: True})
    assert heeded.contamination.evidence == "strong"
    assert heeded.contamination.estimate >= 1 / N
    assert len(_suspects(heeded)) < 0.05 * N


def test_kept_suspects_make_their_like_less_suspect_and_rejected_ones_more() -> None:
    plain = decide(SCORES, {})
    ranking = SCORES.ranking()
    near = [plain.ids.index(i) for i in ranking[55:65]]
    kept = decide(SCORES, {}, decided=dict.fromkeys(ranking[:50], False))
    assert kept.p_anomalous[near].mean() < 0.5 * plain.p_anomalous[near].mean()
    assert kept.contamination.estimate < plain.contamination.estimate
    rejected = decide(SCORES, {}, decided=dict.fromkeys(ranking[60:90], True))
    assert rejected.p_anomalous[near].mean() > plain.p_anomalous[near].mean()


def test_probability_still_never_falls_among_the_undecided() -> None:
    random = np.random.default_rng(5)
    decided = _known(random.choice(N, 150, replace=False).tolist())
    split = decide(SCORES, {}, decided=decided)
    undecided = np.array([i not in decided for i in split.ids])
    by_score = split.p_anomalous[undecided][np.argsort(SCORES.values[undecided])]
    assert (np.diff(by_score) >= -1e-6).all()


def test_another_photograph_of_a_decided_thing_asks_for_review() -> None:
    groups = list(range(N))
    first, second = 3, 4
    groups[second] = groups[first]
    split = decide(SCORES, {}, groups=groups, decided={SCORES.ids[first]: True})
    assert split.verdict[second] == "clean"
    assert split.needs_review[second]
    assert not decide(SCORES, {}, groups=groups).needs_review[second]


def test_a_person_may_set_the_cut_anywhere_and_decisions_still_stand() -> None:
    cut = float(np.median(SCORES.values))
    worst = SCORES.ranking()[0]
    split = decide(SCORES, {"a": SCORES}, cut_score=cut, decided={worst: False})
    assert _suspects(split) == {i for i, value in SCORES.by_id().items() if value > cut} - {worst}
    assert split.cut.score == cut
    assert split.cut.rule.startswith("set by a person")
    assert len(_suspects(decide(SCORES, {"a": SCORES}, cut_score=-1.0))) == N
    with pytest.raises(ValueError, match="cut must be a number"):
        decide(SCORES, {}, cut_score=float("nan"))


def test_the_machine_leaves_at_least_half_whatever_people_drop() -> None:
    rejected = set(SCORES.ranking()[:250])
    split = decide(SCORES, {}, cost_ratio=1e9, decided=dict.fromkeys(rejected, True))
    assert len(_suspects(split)) <= N / 2
    assert rejected < _suspects(split)


def test_permuting_images_and_decisions_changes_nothing() -> None:
    order = np.random.default_rng(1).permutation(N)
    permuted = ScoredImages(tuple(SCORES.ids[i] for i in order), SCORES.values[order])
    decided = _known([1, 2, 3, N - 2, N - 1])
    one = decide(SCORES, {"a": SCORES}, decided=decided)
    other = decide(permuted, {"a": permuted}, decided=dict(reversed(decided.items())))
    assert (other.p_anomalous == one.p_anomalous[order]).all()
    assert (other.interval == one.interval[order]).all()
    assert (other.cut, other.contamination) == (one.cut, one.contamination)


@pytest.mark.parametrize("n", [1, 2, 10, 25])
@pytest.mark.parametrize("bad", [True, False])
def test_decisions_on_tiny_sets_give_finite_answers(n: int, bad: bool) -> None:
    few = ScoredImages(SCORES.ids[:n], SCORES.values[:n])
    split = decide(few, {"a": few}, decided={few.ids[0]: bad})
    for column in (split.p_anomalous, split.interval, split.confidence):
        assert np.isfinite(column).all()
    low, high = split.contamination.interval
    assert low <= split.contamination.estimate <= high


def test_pooling_equals_scikit_learns_isotonic_regression() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 40, 200).astype(np.float64)  # with ties
    p, weights = np.sort(random.random(40))[scores.astype(int)], random.uniform(0.2, 1, 200)
    truth = np.where(random.random(200) < 0.3, (random.random(200) < p).astype(float), np.nan)
    known = ~np.isnan(truth)
    target = np.where(known, truth, p)
    expected = IsotonicRegression().fit(scores, target, weights).predict(scores)
    found = heeding(p, truth, scores, weights)
    np.testing.assert_allclose(found[~known], expected[~known], atol=1e-9)
    assert (found[known] == truth[known]).all()


def test_no_share_of_a_set_that_was_judged_as_a_whole_exceeds_one() -> None:
    for n in (1, 2, 9, 30):  # with 9 the sum of the weights in another order was a last bit above their sum
        scores = ScoredImages(tuple(f"i{i:02d}" for i in range(n)), np.arange(n, dtype=np.float32))
        for bad in (True, False):
            found = decide(scores, {}, groups=[0] * n, decided=dict.fromkeys(scores.ids, bad)).contamination
            assert 0 <= found.interval[0] <= found.estimate <= found.interval[1] <= 1
            assert found.estimate == bad
