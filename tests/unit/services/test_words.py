"""Figures in words."""

import pytest

from siftline.services.words import percent


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0, "0 %"),
        (0.0003, "< 0.1 %"),
        (0.083, "8.3 %"),
        (0.17, "17 %"),
        (0.9949, "99 %"),
        (0.996, "99.6 %"),
        (0.9996, "> 99.9 %"),
        (1, "100 %"),
    ],
)
def test_some_is_never_told_as_nothing_nor_most_as_all(share: float, said: str) -> None:
    assert percent(share) == said
