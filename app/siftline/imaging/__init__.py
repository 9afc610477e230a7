"""Images in, images out: verify what was uploaded, decode it to pixels, draw thumbnails and heat maps.

A leaf: Pillow and numpy only. Every way a hostile or odd file can fail is an `ImageRejected` with a code.
"""

from siftline.imaging.container import MEDIA_TYPES, ImageLimits, ImageRejected, Source
from siftline.imaging.decode import ImageInfo, decode_rgb, verify
from siftline.imaging.render import SheetEntry, contact_sheet, heatmap_png, thumbnail_webp
from siftline.imaging.tone import SampleRange, Tone, tone_of_set

__all__ = [
    "MEDIA_TYPES",
    "ImageInfo",
    "ImageLimits",
    "ImageRejected",
    "SampleRange",
    "SheetEntry",
    "Source",
    "Tone",
    "contact_sheet",
    "decode_rgb",
    "heatmap_png",
    "thumbnail_webp",
    "tone_of_set",
    "verify",
]
