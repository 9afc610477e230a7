"""The one colour scale of all heat maps: black, violet, red, orange, pale yellow.

Generated, not copied: equal steps of score are equal steps of lightness in Oklab (Björn Ottosson, 2020), so
the order of scores can be seen in grey print and by colour-blind eyes too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_LIGHTNESS = (0.10, 0.97)
_HUE_DEG = (285.0, 465.0)  # from violet over red (390 = 30) to yellow (465 = 105)
_CHROMA_PEAK = 0.19
_LAB_TO_LMS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_LMS_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


@cache
def heat_colours() -> NDArray[np.uint8]:
    """(256, 3) sRGB, read-only: colour of level 0 (normal) to 255 (most suspect)."""
    t = np.linspace(0.0, 1.0, 256)
    lightness = _LIGHTNESS[0] + (_LIGHTNESS[1] - _LIGHTNESS[0]) * t
    hue = np.deg2rad(_HUE_DEG[0] + (_HUE_DEG[1] - _HUE_DEG[0]) * t)
    chroma = _CHROMA_PEAK * np.sin(np.pi * (0.08 + 0.84 * t)) ** 0.8
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=1)
    linear = np.clip((lab @ _LAB_TO_LMS.T) ** 3 @ _LMS_TO_LINEAR_RGB.T, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    table: NDArray[np.uint8] = np.rint(255 * srgb).astype(np.uint8)
    table.flags.writeable = False
    return table
