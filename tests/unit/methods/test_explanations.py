"""What is shown as the reason: the right patch, its true nearest neighbours, and groups of look-alikes."""

import numpy as np
import pytest

from siftline.domain.scores import ScoredImages
from siftline_workers.methods import clusters, neighbours
from siftline_workers.methods.explanations import OddestPatches, image_of, oddest_patches, surroundings
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.near_duplicates import NearDuplicates
from tests.unit.methods.synthetic import DIM, SIDE, picked, texture_images

ODD = 4


def explained(
    features: PatchFeatures, group: list[int] | None = None, suspect: list[int] | None = None
) -> OddestPatches:
    n = features.n_images
    groups = NearDuplicates(features.ids, np.array(group or range(n)))
    shard = neighbours.search_shard(features, neighbours.build_pool(features), groups, 0, n)
    graph = neighbours.join([shard], features)
    heat = graph.bank_distance(np.ones(n, bool))
    looks_clean = np.ones(n, bool)
    looks_clean[suspect or []] = False
    return oddest_patches(features, graph, groups, heat, looks_clean)


def truly_nearest(features: PatchFeatures, row: int, others: list[int]) -> tuple[float, int]:
    """Distance, and which of the other images it is to, by comparing everything with everything."""
    query = features.patches[row].astype(np.float64)
    found = [float(np.sqrt(((features.of(i).astype(np.float64) - query) ** 2).sum(1).min())) for i in others]
    return min(found), others[int(np.argmin(found))]


def test_the_oddest_patch_lies_in_the_odd_corner_and_its_neighbours_are_truly_the_nearest() -> None:
    features = texture_images(30, odd=ODD)
    found = explained(features, suspect=list(range(30 - ODD, 30)))
    good = list(range(30 - ODD))
    for i in range(30 - ODD, 30):
        row = int(found.rows[i])
        assert image_of(features, row) == i
        distance, nearest = truly_nearest(features, row, good)
        assert found.distances[i, 0] == pytest.approx(distance, rel=1e-3)
        assert image_of(features, int(found.neighbours[i, 0])) == nearest
        assert found.distance[i] > 2 * found.typical_distance
    for i in range(30):
        of = [image_of(features, int(row)) for row in found.neighbours[i]]
        assert i not in of
        assert len(set(of)) == 3
        assert not set(of) & set(range(30 - ODD, 30)), "there are good images enough to compare with"
        assert (np.diff(found.distances[i]) >= 0).all()


def test_photographs_of_one_thing_neither_explain_each_other_nor_come_twice() -> None:
    once = texture_images(10)
    features = picked(once, [i // 2 for i in range(20)], [f"photo-{i:02d}" for i in range(20)])
    group = [i // 2 * 2 for i in range(20)]
    found = explained(features, group)
    for i in range(20):
        things = [group[image_of(features, int(row))] for row in found.neighbours[i]]
        assert group[i] not in things
        assert len(set(things)) == 3


def test_with_nothing_to_compare_there_is_no_neighbour_and_no_distance() -> None:
    found = explained(texture_images(1))
    assert (found.neighbours == -1).all()
    assert found.distance.tolist() == [0.0]
    assert found.typical_distance == 0.0
    two = explained(texture_images(2), suspect=[0, 1])
    assert (two.neighbours >= 0).sum(axis=1).tolist() == [1, 1]


def test_the_order_of_the_images_changes_no_explanation() -> None:
    features = texture_images(20, odd=2)
    order = np.random.default_rng(1).permutation(20)
    straight, permuted = explained(features), explained(picked(features, order))
    np.testing.assert_array_equal(permuted.distances, straight.distances[order])


def test_a_box_is_the_patch_with_the_ring_its_descriptor_averages_cut_at_the_rim() -> None:
    features = texture_images(2)
    cell = 1 / SIDE
    assert surroundings(features, 0) == pytest.approx((0, 0, 2 * cell, 2 * cell))
    middle = SIDE * SIDE + 2 * SIDE + 3
    assert surroundings(features, middle) == pytest.approx((2 * cell, cell, 5 * cell, 4 * cell))
    assert surroundings(features, 2 * SIDE * SIDE - 1) == pytest.approx((1 - 2 * cell, 1 - 2 * cell, 1, 1))


def with_defects(n: int, kinds: list[int], seed: int = 0) -> tuple[PatchFeatures, np.ndarray]:
    """n textures around their mean, the first few with a defect of a kind; and where they are hot."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(size=(n, SIDE, SIDE, DIM))
    directions = rng.normal(size=(max(kinds) + 1, DIM))
    heat = np.zeros((n, SIDE, SIDE), np.float32)
    for i, kind in enumerate(kinds):
        row, column = rng.integers(0, SIDE, 2)
        maps[i, row, column] = 5 * directions[kind] + 0.5 * rng.normal(size=DIM)
        heat[i, row, column] = 1
    features = PatchFeatures.from_grids([f"image-{i:03d}" for i in range(n)], list(maps.astype(np.float16)))
    return features, heat.ravel()


def falling_scores(features: PatchFeatures) -> ScoredImages:
    return ScoredImages(features.ids, -np.arange(features.n_images, dtype=np.float32))


KINDS = [0, 1, 0, 0, 1, 2]


def test_defects_of_a_kind_are_one_cluster_numbered_by_its_most_suspect_image() -> None:
    features, heat = with_defects(60, KINDS)
    alone = NearDuplicates(features.ids, np.arange(60))
    cluster = clusters.look_alikes(features, alone, heat, falling_scores(features))
    assert cluster[: len(KINDS)].tolist() == KINDS
    assert set(np.unique(cluster).tolist()) == set(range(cluster.max() + 1))


def test_the_order_of_the_images_changes_no_cluster() -> None:
    features, heat = with_defects(40, KINDS)
    scores, order = falling_scores(features), np.random.default_rng(2).permutation(40)
    straight = clusters.look_alikes(features, NearDuplicates(features.ids, np.arange(40)), heat, scores)
    moved = picked(features, order)
    moved_heat = heat.reshape(40, -1)[order].ravel()
    permuted = clusters.look_alikes(moved, NearDuplicates(moved.ids, np.arange(40)), moved_heat, scores)
    assert (permuted == straight[order]).all()


def test_near_duplicates_share_a_cluster_however_odd_they_look() -> None:
    features, heat = with_defects(40, KINDS)
    group = np.arange(40)
    group[[1, 5, 39]] = 1  # kinds 1, 2 and none
    cluster = clusters.look_alikes(
        features, NearDuplicates(features.ids, group), heat, falling_scores(features)
    )
    assert len(set(cluster[[1, 5, 39]].tolist())) == 1


def test_less_suspect_images_never_rename_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    features, heat = with_defects(60, KINDS)
    alone = NearDuplicates(features.ids, np.arange(60))
    all_of_them = clusters.look_alikes(features, alone, heat, falling_scores(features))
    monkeypatch.setattr(clusters, "_LEADERS", 5)
    fewer = clusters.look_alikes(features, alone, heat, falling_scores(features))
    assert (fewer[: len(KINDS)] == all_of_them[: len(KINDS)]).all()
    assert fewer.max() > all_of_them.max(), "with no leader left, images that fit none stay alone"


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_sets_and_identical_images_have_clusters_too(n: int) -> None:
    features = picked(texture_images(1), [0] * n, [f"same-{i}" for i in range(n)])
    groups = NearDuplicates(features.ids, np.zeros(n, np.int64))
    heat = np.zeros(features.n_patches, np.float32)
    assert clusters.look_alikes(features, groups, heat, falling_scores(features)).tolist() == [0] * n
