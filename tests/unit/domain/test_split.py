"""The cut: what the evidence allows, what a mistake costs, and never NaN."""

import numpy as np
import pytest

from siftline.domain.scores import ScoredImages
from siftline.domain.split import decide, verdicts


def _scores(values: np.ndarray) -> ScoredImages:
    return ScoredImages(tuple(f"i{n:05d}" for n in range(len(values))), values.astype(np.float32))


def _skewed(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(6.0, size=n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [60, 400, 2000])
def test_clean_sets_lose_under_five_percent_and_show_no_evidence(n: int, seed: int) -> None:
    split = decide(_scores(_skewed(n, seed)), {})
    assert split.contamination.evidence == "none"
    assert split.contamination.estimate == 0
    assert split.verdict.count("suspect") < 0.05 * n


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_well_separated_anomalies_are_found_counted_and_dropped(share: float) -> None:
    n = 600
    bad = int(share * n)
    values = np.concatenate([_skewed(n - bad, 0), 22 + 2 * np.random.default_rng(1).normal(size=bad)])
    split = decide(_scores(values), {})
    assert split.contamination.evidence == "strong"
    assert split.contamination.estimate == pytest.approx(share, abs=0.03)
    assert split.contamination.interval[0] <= share <= split.contamination.interval[1]
    suspect = np.array([v == "suspect" for v in split.verdict])
    assert suspect[-bad:].mean() > 0.9
    assert suspect[:-bad].mean() < 0.03


def test_probability_never_falls_with_the_score_and_intervals_hold_it() -> None:
    values = np.concatenate([_skewed(300, 2), 20 + np.random.default_rng(3).normal(size=40)])
    split = decide(_scores(values), {})
    by_score = split.p_anomalous[np.argsort(values)]
    assert (np.diff(by_score) >= -1e-6).all()
    assert (split.interval[:, 0] <= split.p_anomalous).all()
    assert (split.p_anomalous <= split.interval[:, 1]).all()
    assert ((split.confidence >= 0) & (split.confidence <= 1)).all()


def test_photographs_of_one_odd_thing_are_not_evidence_of_many() -> None:
    values = np.concatenate([_skewed(200, 4), np.full(12, 30.0)])
    groups = [*range(200), *[200] * 12]
    assert decide(_scores(values), {}).contamination.evidence != "none"
    assert decide(_scores(values), {}, groups=groups).contamination.evidence == "none"


def test_a_dearer_miss_drops_more_but_never_more_than_half() -> None:
    values = np.concatenate([_skewed(300, 5), 17 + 3 * np.random.default_rng(6).normal(size=60)])
    dropped = [decide(_scores(values), {}, cost_ratio=c).verdict.count("suspect") for c in (1.0, 4.0, 1e9)]
    assert dropped[0] <= dropped[1] <= dropped[2] <= 180


def test_permuting_the_images_and_numbering_the_things_anew_changes_nothing() -> None:
    values = np.concatenate([_skewed(150, 7), [18.0, 20, 21, 23, 25, 25, 25]])
    things = np.arange(len(values)) // 2
    scores = _scores(values)
    order = np.random.default_rng(0).permutation(len(values))
    permuted = ScoredImages(tuple(scores.ids[i] for i in order), scores.values[order])
    numbered_anew = np.random.default_rng(1).permutation(things.max() + 1)[things[order]]
    one = decide(scores, {}, groups=things.tolist())
    other = decide(permuted, {}, groups=numbered_anew.tolist())
    assert one.contamination.evidence != "none"
    assert (other.p_anomalous == one.p_anomalous[order]).all()
    assert other.cut == one.cut
    assert other.contamination == one.contamination


@pytest.mark.parametrize(
    "values", [np.zeros(1), np.arange(2.0), np.zeros(50), np.r_[np.zeros(49), 1], np.arange(5.0)]
)
def test_degenerate_sets_get_a_clear_answer(values: np.ndarray) -> None:
    split = decide(_scores(values), {"a": _scores(values)})
    for column in (split.p_anomalous, split.interval, split.confidence):
        assert np.isfinite(column).all()
    assert split.contamination.evidence == "none"
    assert split.verdict.count("suspect") <= 1


def test_small_sets_are_marked_uncertain_and_tiny_ones_drop_nothing() -> None:
    assert decide(_scores(_skewed(40, 8)), {}).cut.uncertain
    tiny = decide(_scores(np.r_[_skewed(9, 8), 500.0]), {})
    assert tiny.cut.uncertain
    assert tiny.verdict.count("suspect") == 0


def test_of_a_tiny_set_nothing_is_known_but_what_people_said() -> None:
    split = decide(_scores(_skewed(15, 8)), {}, decided={"i00003": True, "i00004": False})
    assert split.contamination.interval[1] == 0.5
    undecided = np.array([i not in (3, 4) for i in range(15)])
    assert (split.needs_review == undecided).all()
    assert (split.interval[undecided, 1] == 1).all()
    assert (split.p_anomalous[undecided] > 0).all()
    assert split.p_anomalous[[3, 4]].tolist() == [1, 0]


def test_a_prior_is_a_hint_that_widens_the_interval() -> None:
    scores = _scores(_skewed(300, 9))
    hinted = decide(scores, {}, prior=0.3)
    assert hinted.prior == 0.3
    assert hinted.contamination.interval[1] >= 0.3
    assert hinted.verdict.count("suspect") < 0.05 * 300


def test_signals_that_disagree_ask_for_review() -> None:
    values = np.concatenate([_skewed(200, 10), 25 + np.random.default_rng(1).normal(size=20)])
    agreeing, opposed = _scores(values), _scores(-values)
    assert not decide(_scores(values), {"a": agreeing}).needs_review[-20:].any()
    assert decide(_scores(values), {"a": opposed, "b": opposed}).needs_review[-20:].all()


def test_the_cut_can_be_moved_without_deciding_again() -> None:
    scores = _scores(np.array([3.0, 1.0, 2.0]))
    assert verdicts(scores, 1.5) == ("suspect", "clean", "suspect")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost_ratio": 0.0}, "cost ratio"),
        ({"prior": 0.7}, "between 0 and 0.5"),
        ({"groups": [1]}, "groups for"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(_scores(np.arange(30.0)), {}, **options)  # type: ignore[arg-type]  # parametrized
    with pytest.raises(ValueError, match="nothing to split"):
        decide(ScoredImages((), np.zeros(0, np.float32)), {})


@pytest.mark.parametrize("values", [[np.nan, 1.0], [np.inf, 1.0]])
def test_scores_must_be_finite_unique_and_as_many_as_ids(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        ScoredImages(("a", "b"), np.array(values, np.float32))
    with pytest.raises(ValueError, match="unique"):
        ScoredImages(("a", "a"), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="3 ids"):
        ScoredImages(("a", "b", "c"), np.zeros(2, np.float32))


def test_what_hides_without_evidence_is_bounded_with_the_bound_s_own_error() -> None:
    held, bare = 0, 0
    for seed in range(5):
        random = np.random.default_rng(seed)
        found = decide(_scores(np.r_[random.normal(size=90), 1 + random.normal(size=10)]), {}).contamination
        assert found.evidence == "none"
        assert found.interval[1] > found.methods["asymmetry"]
        held += found.interval[1] >= 0.1
        bare += found.methods["asymmetry"] >= 0.1
    assert bare <= 2
    assert held >= 3
