"""Photographs of one thing are found, unlike things of one kind are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from siftline_workers.methods import connected, near_duplicates
from siftline_workers.methods.features import PatchFeatures
from tests.unit.methods.synthetic import DIM, SIDE, picked, texture_images


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


def written_out(unit: NDArray[np.float32], found: NDArray[np.float32]) -> list[int]:
    """The groups, from every pair that there is: walked over at .3, and at a higher bar where too large."""
    n = len(unit)
    products = unit.astype(np.float64) @ unit.T.astype(np.float64)
    products[(found[:, None] == found[None]).all(axis=2)] = 1.0

    def walked(members: list[int], bar: float) -> list[list[int]]:
        left, parts = set(members), []
        while left:
            reached = [left.pop()]
            for i in reached:
                near = [j for j in left if products[i, j] >= bar]
                left.difference_update(near)
                reached.extend(near)
            parts.append(reached)
        return parts

    parts = walked(list(range(n)), 0.3)
    for bar in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        too_large = [part for part in parts if len(part) > max(8, n // 10)]
        parts = [part for part in parts if part not in too_large]
        parts += [part for whole in too_large for part in walked(whole, bar)]
    group = {i: min(part) for part in parts for i in part}
    return [group[i] for i in range(n)]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(2, 90), st.integers(1, 30), st.floats(0.1, 1.8), st.booleans(), st.integers(0, 2**32 - 1))
def test_groups_are_those_of_all_pairs_written_out_also_when_images_come_later(
    n: int, things: int, noise: float, is_chain: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    shown = rng.normal(size=(things, 2048))[rng.integers(0, things, n)] + noise * rng.normal(size=(n, 2048))
    found = (np.cumsum(shown, axis=0) if is_chain else shown).astype(np.float32)
    found[rng.integers(0, n, n // 8)] = found[rng.integers(0, n, n // 8)]
    ids, known = tuple(map(str, range(n))), int(rng.integers(1, n + 1))
    commons = near_duplicates.common_modes(found[:known], ids[:known], 0)
    whole = near_duplicates.connected(found, commons)
    grown = near_duplicates.connected(found, commons, near_duplicates.connected(found[:known], commons))
    expected = written_out(near_duplicates._private_parts(found, commons), found)
    assert near_duplicates.grouped(whole).tolist() == expected
    assert (grown == whole).all()


@pytest.mark.parametrize("rows", [4096, 48])
def test_many_photographs_of_a_few_things_part_whatever_is_looked_at_together(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near_duplicates, "_QUERIED", rows)
    monkeypatch.setattr(near_duplicates, "_STORED", rows)
    rng = np.random.default_rng(3)
    thing = rng.permutation(np.repeat(np.arange(12), 50))
    found = (rng.normal(size=(12, 2048))[thing] + 0.5 * rng.normal(size=(600, 2048))).astype(np.float32)
    none = np.zeros((0, 2048))
    commons = near_duplicates.Commons(np.zeros(2048), none, none, np.zeros(0))
    group = near_duplicates.grouped(near_duplicates.connected(found, commons))
    first = np.array([np.flatnonzero(thing == which)[0] for which in range(12)])
    assert (group == first[thing]).all()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data(), st.integers(1, 40))
def test_edges_may_come_in_any_portions(data: st.DataObject, n: int) -> None:
    position = st.integers(0, n - 1)
    edges = np.array(data.draw(st.lists(st.tuples(position, position), max_size=60)), np.int64).reshape(-1, 2)
    cut = data.draw(st.integers(0, len(edges)))
    (alone,) = connected.singletons(1, n)
    once = connected.joined(alone, edges[:, 0], edges[:, 1])
    some = connected.joined(alone, edges[:cut, 0], edges[:cut, 1])
    twice = connected.joined(some, edges[cut:, 0], edges[cut:, 1])
    least = list(range(n))
    for _ in range(n):
        for a, b in edges.tolist():
            least[a] = least[b] = min(least[a], least[b])
    assert once.tolist() == twice.tolist() == least


def test_an_odd_image_is_no_near_duplicate_of_ordinary_ones_and_its_like_are_of_each_other() -> None:
    """It is a mode of the set all by itself; taken out, only noise would be left of it to compare."""
    rng = np.random.default_rng(3)
    good = texture_images(200)
    odd = 8 * rng.normal(size=(1, SIDE, SIDE, DIM)) + 0.3 * rng.normal(size=(6, SIDE, SIDE, DIM))
    maps = [good.of(i).reshape(SIDE, SIDE, DIM) for i in range(200)] + list(odd.astype(np.float16))
    features = PatchFeatures.from_grids([f"i{i}" for i in range(206)], maps)
    group = near_duplicates.find(features).group
    assert len(set(group[200:].tolist())) == 1
    assert not np.isin(group[:200], group[200:]).any()


def test_ten_photographs_of_one_odd_thing_are_of_each_other_although_they_are_a_mode_of_the_set() -> None:
    """A strong one, which no other image has; taken out, each would be left with its own noise."""
    rng = np.random.default_rng(3)
    good = texture_images(200)
    odd = good.patches.reshape(200, SIDE, SIDE, DIM).mean(0) + 0.6 * rng.normal(size=(1, SIDE, SIDE, DIM))
    maps = [good.of(i).reshape(SIDE, SIDE, DIM) for i in range(200)]
    maps += list((odd + 0.5 * rng.normal(size=(10, SIDE, SIDE, DIM))).astype(np.float16))
    features = PatchFeatures.from_grids([f"i{i}" for i in range(210)], maps)
    group = near_duplicates.find(features).group
    assert len(set(group[200:].tolist())) == 1
    assert not np.isin(group[:200], group[200:]).any()


def test_images_that_have_a_little_of_what_is_odd_in_one_are_not_photographs_of_it() -> None:
    """One image may carry a mode nearly alone; those that lean its way keep nothing of it."""
    rng = np.random.default_rng(5)
    direction = rng.normal(size=2048) / 2048**0.5
    leaning = np.zeros(200)
    leaning[0], leaning[1:7] = 100, 20
    found = (rng.normal(size=(200, 2048)) + np.outer(leaning, direction)).astype(np.float32)
    commons = near_duplicates.common_modes(found, tuple(map(str, range(200))), 0)
    assert len(commons.rare) == 1
    group = near_duplicates.grouped(near_duplicates.connected(found, commons))
    assert group.tolist() == list(range(200))
