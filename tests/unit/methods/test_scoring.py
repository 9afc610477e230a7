"""LLBNAD subsets, FUN-AD heads, pooling and fusion: out of fold, order-free, never NaN."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from siftline.domain import scales
from siftline.domain.scores import ScoredImages
from siftline_workers.methods import funad, fusion, llbnad, near_duplicates, neighbours, padim, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.funad_head import FunadOptions, HeadFit, mutual_pairs
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.methods.neighbours import NeighbourGraph
from siftline_workers.methods.pooling import pool_images, robust_z
from tests.unit.methods.synthetic import picked, texture_images

QUICK = FunadOptions(rounds=2, folds=2, steps=20, batch=128)


@dataclass
class Prepared:
    features: PatchFeatures
    groups: NearDuplicates
    graph: NeighbourGraph


def prepared(features: PatchFeatures) -> Prepared:
    groups = near_duplicates.find(features)
    projected = projection.project(features, projection.fit(features))
    pool = neighbours.build_pool(projected)
    shard = neighbours.search_shard(projected, pool, groups, 0, projected.n_images)
    return Prepared(projected, groups, neighbours.join([shard], projected))


def fused(features: PatchFeatures) -> ScoredImages:
    ready = prepared(features)
    subset = llbnad.subset_scores(ready.graph, ready.groups)
    head = funad.pseudo_label_scores(ready.features, ready.graph, ready.groups, subset.scores, options=QUICK)
    signals = {
        "neighbours": llbnad.neighbour_scores(ready.graph),
        "llbnad": subset.scores,
        "llbnad_spread": subset.spread,
        "padim": padim.place_scores(ready.features, ready.groups).scores,
        "funad": head.scores,
    }
    return fusion.fuse(signals, ready.groups).scores


def test_odd_images_rank_first_and_the_kept_ids_are_those_of_the_lowest_scores() -> None:
    scores = fused(texture_images(60, odd=5))
    assert set(scores.ranking()[:5]) == {f"image-{i:03d}" for i in range(55, 60)}
    kept = set(scores.ranking()[5:])
    assert kept == {scores.ids[i] for i in np.argsort(scores.values)[:55]}


def test_permuting_the_input_changes_no_score_and_the_same_seed_gives_the_same_answer() -> None:
    features = texture_images(40, odd=3)
    order = np.random.default_rng(3).permutation(40)
    straight, permuted = fused(features), fused(picked(features, order))
    assert permuted.ranking() == straight.ranking()
    np.testing.assert_allclose(permuted.aligned_to(straight.ids), straight.values, atol=1e-4)
    assert (fused(features).values == straight.values).all()


def test_subsets_are_near_equal_and_keep_near_duplicates_together() -> None:
    ids = tuple(f"i{n}" for n in range(100))
    groups = NearDuplicates(ids, np.arange(100) // 4 * 4)
    for repeat in range(4):
        subset = llbnad.subsets_of(groups, 5, repeat, seed=0)
        assert set(subset.tolist()) == set(range(5))
        assert np.bincount(subset).max() <= 24
        assert (subset.reshape(25, 4) == subset.reshape(25, 4)[:, :1]).all()


def test_no_sub_model_scores_an_image_it_holds_or_whose_near_duplicate_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = prepared(texture_images(30))
    banks = []
    look_up = NeighbourGraph.bank_distance

    def recording(self: NeighbourGraph, in_bank: np.ndarray) -> np.ndarray:
        banks.append(in_bank.copy())
        return look_up(self, in_bank)

    monkeypatch.setattr(NeighbourGraph, "bank_distance", recording)
    without = llbnad.subset_scores(ready.graph, ready.groups, repeats=1, subsets=3)
    assert np.stack(banks).sum(0).tolist() == [1] * 30  # disjoint, and everything is in one of them
    # Ruin what the bank that holds image 0 says of image 0: the answer may not change.
    own_bank = next(b for b in banks if b[0])

    def ruined(self: NeighbourGraph, in_bank: np.ndarray) -> np.ndarray:
        distance = look_up(self, in_bank)
        if (in_bank == own_bank).all():
            distance[self.offsets[0] : self.offsets[1]] = 1e6
        return distance

    monkeypatch.setattr(NeighbourGraph, "bank_distance", ruined)
    again = llbnad.subset_scores(ready.graph, ready.groups, repeats=1, subsets=3)
    np.testing.assert_allclose(again.patch_scores, without.patch_scores)


def test_a_head_never_sees_a_patch_of_an_image_outside_its_fold() -> None:
    ready = prepared(texture_images(20))
    training = np.arange(20) % 2 == 0
    fit = HeadFit(ready.features, ready.graph, training, QUICK, seed=0)
    assert set(ready.features.image_index[fit._rows].tolist()) == set(np.flatnonzero(training).tolist())
    start = np.linspace(0, 1, 20, dtype=np.float32)
    fit.run(start, lambda _steps: None)
    told = fit.head.predict(ready.features.of(1))
    ready.features.patches[ready.features.offsets[3] : ready.features.offsets[4]] = 9.0  # outside the fold
    other = HeadFit(ready.features, ready.graph, training, QUICK, seed=0)
    other.run(start, lambda _steps: None)
    assert (other.head.predict(ready.features.of(1)) == told).all()


def test_vectorised_mutual_pairs_equal_a_brute_force_loop() -> None:
    points = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    points[17] = points[201]
    distance = ((points[:, None] - points[None]) ** 2).sum(-1)
    nearest = [min((float(d), j) for j, d in enumerate(row) if j != i)[1] for i, row in enumerate(distance)]
    expected = {(i, j) for i, j in enumerate(nearest) if nearest[j] == i and i < j}
    q, n = mutual_pairs(points)
    assert set(zip(q.tolist(), n.tolist(), strict=True)) == expected
    assert (17, 201) in expected
    assert len(mutual_pairs(points[:1])[0]) == 0


def test_cancelling_stops_the_heads() -> None:
    class Cancelled(Exception):
        pass

    ready = prepared(texture_images(20))

    def cancel(_share: float) -> None:
        raise Cancelled

    warm = ScoredImages(ready.features.ids, np.zeros(20, np.float32))
    long = FunadOptions(steps=1_000_000)
    with pytest.raises(Cancelled):
        funad.pseudo_label_scores(
            ready.features, ready.graph, ready.groups, warm, options=long, on_progress=cancel
        )


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_fewer_images_than_folds_give_finite_scores(n: int) -> None:
    assert np.isfinite(fused(texture_images(n)).values).all()


def test_identical_images_all_score_the_same() -> None:
    same = picked(texture_images(1), [0] * 12, [f"same-{i}" for i in range(12)])
    assert len(set(fused(same).values.tolist())) == 1


def test_robust_z_of_constant_and_nearly_constant_values_is_finite() -> None:
    assert robust_z(np.full(9, 3.0, np.float32)).tolist() == [0.0] * 9
    z = robust_z(np.array([1.0] * 9 + [2.0], np.float32))
    assert np.isfinite(z).all()
    assert z[-1] > z[0]


def test_pooling_finds_small_and_large_defects() -> None:
    rng = np.random.default_rng(0)
    patches = rng.random((40, 256)).astype(np.float32)
    patches[7, 0] = 4.0
    patches[9, :64] += 0.4
    pooled = pool_images(patches.ravel(), np.arange(41) * 256)
    assert set(np.argsort(pooled)[-2:].tolist()) == {7, 9}


def test_one_wild_signal_cannot_decide_alone() -> None:
    ids = tuple(f"i{n:02d}" for n in range(50))
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50).astype(np.float32)
    wild = truth.copy()
    wild[0] = 1e6
    alone = NearDuplicates(ids, np.arange(50))
    result = fusion.fuse(
        {"a": ScoredImages(ids, truth), "b": ScoredImages(ids, truth), "c": ScoredImages(ids, wild)}, alone
    )
    assert result.scores.values.max() < 20


def test_photographs_of_one_thing_share_their_evidence() -> None:
    assert scales.shared(np.array([3.0, 0.0, 5.0]), np.array([0, 0, 1])).tolist() == [2.0, 1.0, 5.0]


def test_the_fused_scores_keep_the_order_of_the_votes_and_the_scale_of_things() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(60)
    group[50:] = 50  # ten photographs of one thing: high by the votes, ordinary on the scale
    ids = tuple(f"i{n:02d}" for n in range(60))
    votes, scale = rng.normal(size=60).astype(np.float32), rng.normal(size=60).astype(np.float32)
    votes[50:] += 9
    alike = {"llbnad": ScoredImages(ids, votes), "neighbours": ScoredImages(ids, scale)}
    fused = fusion.fuse(alike, NearDuplicates(ids, group)).scores
    assert set(fused.ranking()[:10]) == set(ids[50:])
    assert len(set(fused.values.tolist())) == 60
    # Of 51 things the one with ten photographs takes one share of the scale's values, its highest.
    expected = np.sort(scales.shared(robust_z(scale), group)[:51])
    np.testing.assert_allclose(
        np.quantile(fused.values[:51], (0.1, 0.5, 0.9)), np.quantile(expected, (0.1, 0.5, 0.9)), atol=0.15
    )


def test_signals_of_other_images_are_refused() -> None:
    groups = NearDuplicates(("a", "b"), np.arange(2))
    with pytest.raises(ValueError, match="different images"):
        fusion.fuse({"x": ScoredImages(("a", "c"), np.zeros(2, np.float32))}, groups)
    with pytest.raises(ValueError, match="no signal"):
        fusion.fuse({}, groups)


def test_the_heat_map_points_at_the_odd_patch() -> None:
    scores = np.random.default_rng(0).random(5000).astype(np.float32)
    scores[123] = 9.0
    heat = fusion.heat_maps({"a": scores})
    assert heat.argmax() == 123
    assert (heat >= 0).all()
    assert (heat <= 1).all()
    assert not fusion.heat_maps({"a": np.ones(10, np.float32)}).any()
