"""The neighbour graph says what a direct search says, and nothing is its own evidence."""

import numpy as np
import pytest
import torch

from siftline_workers.methods import near_duplicates, neighbours, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from tests.unit.methods.synthetic import SIDE, picked, texture_images


def _alone(features: PatchFeatures) -> NearDuplicates:
    return NearDuplicates(features.ids, np.arange(features.n_images))


def _graph(features: PatchFeatures, groups: NearDuplicates, k: int = 32) -> neighbours.NeighbourGraph:
    pool = neighbours.build_pool(features)
    return neighbours.join(
        [neighbours.search_shard(features, pool, groups, 0, features.n_images, k=k)], features
    )


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_bank_minima_of_the_graph_equal_a_direct_search(
    precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "search_precision", lambda: precision)
    features = texture_images(30)
    graph = _graph(features, _alone(features))
    patches = features.patches.astype(np.float32)
    owner = features.image_index
    for seed in range(3):
        in_bank = np.random.default_rng(seed).random(30) < 0.4
        expected = np.empty(len(patches), np.float32)
        for row, patch in enumerate(patches):
            bank = patches[in_bank[owner] & (owner != owner[row])]
            expected[row] = np.sqrt(((bank - patch) ** 2).sum(1).min())
        # .4 % is bfloat16's last bit, .05 % that of the float16 in which distances are kept
        tolerance = 0.01 if precision == torch.bfloat16 else 0.001
        np.testing.assert_allclose(graph.bank_distance(in_bank), expected, rtol=tolerance)


def test_a_bank_beyond_the_known_neighbours_is_at_least_as_far_as_the_farthest_known() -> None:
    features = texture_images(20)
    graph = _graph(features, _alone(features), k=3)
    assert (graph.bank_distance(np.zeros(20, bool)) == graph.distances[:, -1].astype(np.float32)).all()


def test_own_image_and_near_duplicates_are_nobodys_neighbour() -> None:
    features = texture_images(12)
    group = np.array([0, 0, 0, *range(3, 12)])
    graph = _graph(features, NearDuplicates(features.ids, group))
    owner = group[features.image_index]
    known = graph.images >= 0
    assert known.any()
    assert (group[graph.images] != owner[:, None])[known].all()
    assert (known.sum(1)[features.image_index < 3] == 9).all()


def test_shards_join_to_the_whole() -> None:
    features = texture_images(10)
    pool, groups = neighbours.build_pool(features), _alone(features)
    parts = [neighbours.search_shard(features, pool, groups, a, b) for a, b in ((6, 10), (0, 6))]
    whole = _graph(features, groups)
    joined = neighbours.join(parts, features)
    assert (joined.distances == whole.distances).all()
    assert (joined.images == whole.images).all()
    with pytest.raises(ValueError, match="cover all images once"):
        neighbours.join(parts[:1], features)


def test_permuting_the_images_permutes_the_graph() -> None:
    features = texture_images(25)
    order = np.random.default_rng(1).permutation(25)
    one, other = (
        _graph(features, _alone(features)),
        _graph(picked(features, order), _alone(picked(features, order))),
    )
    nearest = one.distances[:, 0].reshape(25, -1)
    assert (other.distances[:, 0].reshape(25, -1) == nearest[order]).all()


def test_duplicating_an_image_changes_only_the_copies() -> None:
    features = texture_images(16)
    doubled = picked(features, [*range(16), 4], [*features.ids, "copy-of-4"])
    before = _graph(features, _alone(features)).distances[:, 0].reshape(16, -1)
    groups = near_duplicates.find(doubled)
    after = _graph(doubled, groups).distances[:, 0].reshape(17, -1)
    assert groups.others("image-004") == ("copy-of-4",)
    others = [i for i in range(16) if i != 4]
    assert (after[others] == before[others]).all()
    assert (after[4] == after[16]).all()


def test_the_pool_is_bounded_and_random_not_greedy() -> None:
    features = texture_images(40, odd=4)
    pool = neighbours.build_pool(features, max_patches=80, max_images=20)
    assert pool.vectors.shape == (20, 4, features.dim)
    assert len(set(pool.image.tolist())) == 20
    rows = {row.tobytes() for row in features.patches.astype(np.float32)}
    assert all(vector.tobytes() in rows for vector in pool.vectors.reshape(-1, features.dim))


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_images_give_no_nan(n: int) -> None:
    features = texture_images(n)
    graph = _graph(features, _alone(features))
    distance = graph.bank_distance(np.ones(n, bool))
    assert np.isfinite(distance).all()
    assert (distance == 0).all() == (n == 1)


def test_progress_is_reported_and_may_cancel() -> None:
    class Cancelled(Exception):
        pass

    features = texture_images(40)
    pool, groups = neighbours.build_pool(features), _alone(features)
    seen: list[float] = []
    neighbours.search_shard(features, pool, groups, 0, 40, on_progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0

    def cancel(_share: float) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        neighbours.search_shard(features, pool, groups, 0, 40, on_progress=cancel)


def test_projection_is_the_same_whatever_the_order_and_centres_the_set() -> None:
    features = texture_images(30)
    order = np.random.default_rng(2).permutation(30)
    fitted, again = projection.fit(features), projection.fit(picked(features, order))
    assert (fitted.matrix == again.matrix).all()
    projected = projection.project(features, fitted)
    assert projected.patches.shape == (30 * SIDE * SIDE, 12)
    assert abs(float(projected.patches.astype(np.float32).mean())) < 0.05


def test_a_channel_that_never_moves_is_left_out() -> None:
    features = texture_images(10)
    features.patches[:, 3] = 7.0
    fitted = projection.fit(features)
    assert np.isfinite(fitted.matrix).all()
    assert (fitted.matrix[3] == 0).all()
