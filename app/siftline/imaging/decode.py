"""From an encoded image to (H, W, 3) uint8: the same pixels for methods, thumbnails and people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from siftline.imaging.container import MEDIA_TYPES, ImageLimits, ImageRejected, Source, opened
from siftline.imaging.tone import SampleRange, Tone, sample_range, to_8bit, tone_alone

_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_ALPHA_MODES = ("LA", "PA", "La", "RGBA", "RGBa")
_EIGHT_BIT_MODES = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", *_ALPHA_MODES)
# Under transparency stands mid grey: the colour furthest from inventing an edge against dark or bright parts.
_BACKDROP = (128, 128, 128)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What verification found: the size as displayed (after EXIF rotation), in pixels."""

    width: int
    height: int
    mode: str
    """Pillow's name of the pixel type as stored, for example L, RGB, I;16, CMYK."""
    format: str
    """A key of MEDIA_TYPES, found from the content and never from the file's name."""
    samples: SampleRange | None
    """Range of the samples of an image of more than eight bits, for `tone_of_set`; None for eight bits."""

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.format]


def verify(source: Source, limits: ImageLimits) -> ImageInfo:
    """Decode the whole image and describe it.

    Raises ImageRejected when the content is not one readable image within the limits, OSError when a path
    cannot be opened.
    """
    with opened(source, limits) as image:
        _refuse_unconvertible(image)
        width, height = image.size
        if _orientation(image) in (5, 6, 7, 8):
            width, height = height, width
        samples = sample_range(np.asarray(image)) if image.mode in _DEEP_MODES else None
        name = (image.format or "").lower().replace("mpo", "jpeg")
        return ImageInfo(width, height, image.mode, name, samples)


def decode_rgb(source: Source, limits: ImageLimits, tone: Tone | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 as displayed: upright, composited on mid grey, greys replicated; no colour profiles.

    `tone` is the set's (see `tone_of_set`) and touches images of more than eight bits only; without it 16-bit
    images are scaled by their type's full range. The array may be read-only. Raises as `verify` does.
    """
    with opened(source, limits) as image:
        _refuse_unconvertible(image)
        turn = _UPRIGHT.get(_orientation(image))
        upright = image.transpose(turn) if turn is not None else image
        if image.mode in _DEEP_MODES:
            samples = np.asarray(upright)
            grey = to_8bit(samples, tone or tone_alone(samples))
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode in _ALPHA_MODES or "transparency" in image.info:
            return _composited(upright)
        return np.asarray(upright.convert("RGB"))


def _composited(image: Image.Image) -> NDArray[np.uint8]:
    layer = image.convert("RGBA")
    backdrop = Image.new("RGBA", layer.size, (*_BACKDROP, 255))
    return np.asarray(Image.alpha_composite(backdrop, layer).convert("RGB"))


def _refuse_unconvertible(image: Image.Image) -> None:
    if image.mode not in _EIGHT_BIT_MODES and image.mode not in _DEEP_MODES:
        raise ImageRejected(
            "unsupported-pixels", f"pixels of type {image.mode} have no defined conversion to RGB"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF raises nearly anything; the pixels were decoded and are what counts
        return 1
