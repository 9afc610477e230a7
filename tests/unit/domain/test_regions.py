"""Boxes are where it is hot."""

import numpy as np

from siftline.domain.regions import Region, hot_regions


def test_cells_that_touch_even_at_a_corner_are_one_region_and_the_hottest_comes_first() -> None:
    heat = np.zeros((5, 6), dtype=np.uint8)
    heat[0, 0], heat[1, 1], heat[2, 1] = 130, 140, 128
    heat[4, 4:6] = 250, 200
    heat[0, 5] = 127
    assert hot_regions(heat) == [
        Region(top=4, left=4, bottom=5, right=6, cells=2, peak=250),
        Region(top=0, left=0, bottom=3, right=2, cells=3, peak=140),
    ]


def test_nothing_hot_has_no_region_and_all_hot_has_one() -> None:
    assert hot_regions(np.zeros((3, 3), dtype=np.uint8)) == []
    assert hot_regions(np.full((64, 64), 255, dtype=np.uint8)) == [Region(0, 0, 64, 64, 4096, 255)]
