"""Photographs of one thing are found, unlike things of one kind are not."""

import numpy as np

from siftline_workers.methods import near_duplicates
from siftline_workers.methods.features import PatchFeatures
from tests.unit.methods.synthetic import picked, texture_images


def _rephotographed(features: PatchFeatures, copies: int, brightness: float) -> PatchFeatures:
    """Every image `copies` times: other brightness, fresh noise."""
    rng = np.random.default_rng(5)
    order = np.repeat(np.arange(features.n_images), copies)
    repeated = picked(features, order, [f"{features.ids[i]}-{c}" for c, i in enumerate(order)])
    noise = 0.15 * rng.normal(size=repeated.patches.shape) + brightness * rng.normal(
        size=(len(order), 1)
    ).repeat(36, axis=0)
    repeated.patches[:] = (repeated.patches + noise).astype(np.float16)
    return repeated


def test_photographs_of_one_thing_under_other_light_are_one_group() -> None:
    features = _rephotographed(texture_images(30), copies=4, brightness=0.3)
    group = near_duplicates.find(features).group.reshape(30, 4)
    assert (group == group[:, :1]).mean() > 0.95
    assert len(set(group[:, 0].tolist())) == 30


def test_different_things_of_one_kind_stay_apart() -> None:
    assert len(set(near_duplicates.find(texture_images(80)).group.tolist())) == 80


def test_identical_images_are_one_group_even_when_there_is_nothing_else() -> None:
    one = texture_images(1)
    same = picked(one, [0] * 5, [f"same-{i}" for i in range(5)])
    assert near_duplicates.find(same).group.tolist() == [0] * 5
    assert near_duplicates.find(same).others("same-1") == ("same-0", "same-2", "same-3", "same-4")


def test_grouping_does_not_depend_on_the_order() -> None:
    features = _rephotographed(texture_images(12), copies=3, brightness=0.2)
    order = np.random.default_rng(0).permutation(36)
    straight, permuted = near_duplicates.find(features), near_duplicates.find(picked(features, order))
    for image_id in features.ids:
        assert set(straight.others(image_id)) == set(permuted.others(image_id))


def test_no_image_gives_no_group() -> None:
    empty = PatchFeatures((), np.zeros((0, 4), np.float16), np.zeros(1, np.int64), np.zeros((0, 2), np.int32))
    assert near_duplicates.find(empty).group.shape == (0,)
