"""Likeness: 1 for the same picture, 0 for any two of the set, and the odd place decides."""

import numpy as np
import pytest

from siftline_workers.methods import projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.likeness import likeness
from tests.unit.methods.synthetic import DIM, SIDE, picked, texture_images

MISS, LIKE, COPY = 3, 17, 25


def with_one_defect() -> tuple[PatchFeatures, dict[int, np.ndarray]]:
    """30 textures; two carry one defect at different places, and one is a copy of the first."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(30, SIDE, SIDE, DIM))
    defect = 6 * rng.normal(size=DIM)
    maps[MISS, 0:3, 1:4] = defect
    maps[LIKE, 3:6, 0:3] = defect + 0.2 * rng.normal(size=DIM)
    maps[COPY] = maps[MISS]
    heat = {i: np.zeros(SIDE * SIDE, np.uint8) for i in range(30)}
    heat[MISS][SIDE + 2] = heat[LIKE][4 * SIDE + 1] = heat[COPY][SIDE + 2] = 255
    ids = [f"image-{i:03d}" for i in range(30)]
    return PatchFeatures.from_grids(ids, list(maps.astype(np.float16))), heat


def test_a_copy_is_fully_alike_then_comes_the_same_defect_elsewhere() -> None:
    features, heat = with_one_defect()
    plain = projection.Projection(np.zeros(DIM, np.float32), np.eye(DIM, dtype=np.float32))
    found = likeness(features, plain, MISS, heat)
    assert found[MISS] == found[COPY] == 1
    others = np.delete(np.arange(30), [MISS, COPY])
    assert others[np.argmax(found[others])] == LIKE
    assert found[LIKE] > np.delete(found, [MISS, COPY, LIKE]).max() + 0.1


def test_two_images_of_no_special_likeness_are_near_zero_and_order_changes_nothing() -> None:
    features, order = texture_images(40), np.random.default_rng(1).permutation(40)
    fitted = projection.fit(features)
    found = likeness(features, fitted, 0, {})
    assert found[0] == 1
    assert found[1:].max() < 0.3
    permuted = likeness(picked(features, order), fitted, int(np.flatnonzero(order == 0)[0]), {})
    np.testing.assert_allclose(permuted, found[order], atol=1e-6)


@pytest.mark.parametrize("n", [1, 5])
def test_sets_of_one_picture_are_all_alike(n: int) -> None:
    same = picked(texture_images(1), [0] * n, [f"same-{i}" for i in range(n)])
    assert likeness(same, projection.fit(same), 0, {}).tolist() == [1.0] * n
