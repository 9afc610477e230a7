"""PatchFeatures refuses parts that do not fit each other."""

from typing import Any

import numpy as np
import pytest

from siftline_workers.methods.features import PatchFeatures


def parts() -> dict[str, Any]:
    return {
        "ids": ("a", "b"),
        "patches": np.arange(24, dtype=np.float16).reshape(8, 3),
        "offsets": np.array([0, 2, 8], dtype=np.int64),
        "grids": np.array([[1, 2], [2, 3]], dtype=np.int32),
    }


def test_each_image_owns_its_rows() -> None:
    features = PatchFeatures(**parts())
    assert (features.n_images, features.n_patches, features.dim) == (2, 8, 3)
    assert features.image_index.tolist() == [0, 0, 1, 1, 1, 1, 1, 1]
    assert features.of(1)[0].tolist() == [6, 7, 8]
    assert features.grid(1) == (2, 3)


def test_maps_of_different_size_are_laid_end_to_end() -> None:
    maps = [np.ones((1, 2, 3), dtype=np.float16), np.zeros((2, 2, 3), dtype=np.float16)]
    features = PatchFeatures.from_grids(["x", "y"], maps)
    assert features.offsets.tolist() == [0, 2, 6]
    assert features.of(0).all()
    assert not features.of(1).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": ("a", "a")}, "unique"),
        ({"ids": ("a",)}, "offsets"),
        ({"patches": np.zeros((8, 3), dtype=np.float32)}, "float16"),
        ({"patches": np.zeros((9, 3), dtype=np.float16)}, "number of patches"),
        ({"offsets": np.array([0, 3, 8], dtype=np.int64)}, "as many cells"),
        ({"grids": np.array([[1, 2], [2, 4]], dtype=np.int32)}, "as many cells"),
        ({"grids": np.array([[1, 2], [2, 3]])}, "int32"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchFeatures(**{**parts(), **change})


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        PatchFeatures.from_grids([], [])
