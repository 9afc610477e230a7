"""The tiling rule: wide images keep their shape within the stated stretch; grids join where tiles met."""

import numpy as np
import pytest

from siftline.imaging.tiles import MAX_TILES, join_tiles, tile_layout, to_tiles


@pytest.mark.parametrize(
    ("height", "width", "layout"),
    [
        (100, 100, (1, 1)), (100, 299, (1, 1)), (100, 300, (1, 3)), (300, 100, (3, 1)), (100, 399, (1, 3)),
        (100, 400, (1, 4)), (512, 20_000, (1, 39)), (20_000, 512, (39, 1)), (64, 20_000, (1, 128)),
        (1, 1, (1, 1)), (1, 90_000, (1, 128)),
    ],
)  # fmt: skip
def test_a_long_axis_is_cut_into_whole_squares(height: int, width: int, layout: tuple[int, int]) -> None:
    assert tile_layout(height, width) == layout


def test_no_image_up_to_the_most_tiles_is_squeezed_by_three() -> None:
    for width in range(100, 100 * MAX_TILES, 7):
        squeezed = width / (100 * tile_layout(100, width)[1])
        assert 1 <= squeezed < (1.34 if width >= 300 else 3)


def test_an_empty_image_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one pixel"):
        tile_layout(0, 10)


@pytest.mark.parametrize("shape", [(40, 40, 3), (32, 96, 3), (96, 32, 3), (17, 200, 3)])
def test_tiles_in_order_are_the_resized_image(shape: tuple[int, int, int]) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    rows, columns = tile_layout(*shape[:2])
    tiles = to_tiles(rgb, 32)
    assert tiles.shape == (rows * columns, 32, 32, 3)
    assert tiles.flags.writeable
    assert tiles.flags.c_contiguous
    joined = np.concatenate(list(tiles), axis=0 if columns == 1 else 1)
    assert joined.shape == (rows * 32, columns * 32, 3)
    if shape[:2] == joined.shape[:2]:
        assert np.array_equal(joined, rgb)
    assert abs(float(joined.mean()) - float(rgb.mean())) < 2


@pytest.mark.parametrize("layout", [(1, 1), (1, 3), (3, 1)])
def test_joined_grids_put_every_patch_where_its_pixels_were(layout: tuple[int, int]) -> None:
    rows, columns = layout
    picture = np.arange(rows * 4 * columns * 4, dtype=np.float16).reshape(rows * 4, columns * 4, 1)
    tiles = picture.reshape(rows, 4, columns, 4, 1).swapaxes(1, 2).reshape(rows * columns, 16, 1)
    assert np.array_equal(join_tiles(tiles, layout, grid=4), picture)
