"""PatchFeatures refuses parts that do not fit each other."""

from pathlib import Path
from typing import Any

import numpy as np
import psutil
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


def resident(file: Path) -> int:
    """So many bytes of the file this process holds: exact, which what a system tells of the whole is not."""
    return sum(mapped.rss for mapped in psutil.Process().memory_maps() if mapped.path == str(file.resolve()))


def test_mapped_rows_are_let_go_and_read_again(tmp_path: Path) -> None:
    shape = (4 << 10, 1 << 10)
    np.ones(shape, np.float16).tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float16, "r+", shape=shape)
    features = PatchFeatures(("a",), mapped, np.array([0, 4096]), np.array([[64, 64]], np.int32))
    assert features.patches.sum(dtype=np.float32) == 4 << 20
    assert resident(tmp_path / "rows") > 7 << 20
    features.first(1).let_go()
    assert resident(tmp_path / "rows") == 0
    assert (features.wide(0) == 1).all()


def test_float32_is_exact_whether_or_not_the_rows_may_be_written() -> None:
    features = PatchFeatures(**parts())
    writable = features.wide(1)
    features.patches.flags.writeable = False
    assert (features.wide(1) == writable).all()
    assert writable.dtype == np.float32
    assert writable[0].tolist() == [6, 7, 8]
