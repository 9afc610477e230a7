"""Images of more than eight bits a sample: which sample value becomes white.

A 12-bit camera usually stores its samples in 16-bit files, so dividing by the file type's range would
leave 16 grey levels, and stretching each image by itself would hide exactly the image that is too dark.
So one rule serves a whole set: the smallest usual sensor depth (8, 10, 12, 14, 16 bits…) that holds the
brightest sample of 95 % of its images; one stray file cannot darken the others, and two images of a set
stay comparable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEPTHS_BITS = (8, 10, 12, 14, 16, 24, 32)
_SHARE_HELD = 0.95
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class SampleRange:
    """Smallest and largest finite sample of one image of more than eight bits."""

    low: float
    high: float
    is_float: bool


@dataclass(frozen=True, slots=True)
class Tone:
    """The sample values that become 0 and 255; others are clipped. ValueError unless black < white."""

    black: float
    white: float

    def __post_init__(self) -> None:
        if not self.black < self.white:
            raise ValueError(f"black {self.black} must be below white {self.white}")


def tone_of_set(ranges: Iterable[SampleRange | None]) -> Tone | None:
    """The common tone of a set of images, from their `ImageInfo.samples`; None when all have eight bits.

    Integers start at zero. Floats have no usual range, so theirs is the one that holds 95 % of the images; a
    set with both kinds follows the commoner one.
    """
    deep = [r for r in ranges if r is not None]
    return _common_tone(deep) if deep else None


def _common_tone(deep: list[SampleRange]) -> Tone:
    are_float = 2 * sum(r.is_float for r in deep) > len(deep)
    kind = [r for r in deep if r.is_float == are_float]
    high = float(np.quantile([r.high for r in kind], _SHARE_HELD, method="higher"))
    if not are_float:
        return Tone(0.0, next((float(2**b - 1) for b in _DEPTHS_BITS if high < 2**b), high))
    low = float(np.quantile([r.low for r in kind], 1 - _SHARE_HELD, method="lower"))
    return Tone(low, high if high > low else low + 1.0)


def tone_alone(samples: NDArray[np.generic]) -> Tone:
    """The tone of an image whose set is unknown: 16-bit integers by full range, wider types by content."""
    if samples.dtype.kind == "u" and samples.dtype.itemsize == 2:
        return Tone(0.0, 65_535.0)
    found = sample_range(samples)
    if found.is_float and found.low >= 0.0 and found.high <= 1.0:
        return Tone(0.0, 1.0)
    return _common_tone([found])


def sample_range(samples: NDArray[np.generic]) -> SampleRange:
    """Range of an image's finite samples; (0, 0) when there are none."""
    is_float = samples.dtype.kind == "f"
    low, high = np.inf, -np.inf
    for rows in _blocks(samples):
        finite = rows[np.isfinite(rows)] if is_float else rows
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return SampleRange(low, high, is_float) if low <= high else SampleRange(0.0, 0.0, is_float)


def to_8bit(samples: NDArray[np.generic], tone: Tone) -> NDArray[np.uint8]:
    """(H, W) integers or floats -> (H, W) uint8, rounded to nearest. Not-a-number becomes black."""
    out = np.empty(samples.shape, dtype=np.uint8)
    scale = 255.0 / (tone.white - tone.black)
    done = 0
    for rows in _blocks(samples):  # in blocks: a line-camera scan as float64 would be eight times its size
        levels = (rows.astype(np.float64) - tone.black) * scale
        out[done : done + len(rows)] = np.rint(np.clip(np.nan_to_num(levels, nan=0.0), 0.0, 255.0))
        done += len(rows)
    return out


def _blocks(samples: NDArray[np.generic]) -> Iterator[NDArray[np.generic]]:
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        yield samples[start : start + _ROWS_AT_ONCE]
