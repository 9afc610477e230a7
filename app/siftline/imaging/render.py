"""Pictures for people: thumbnails, heat maps, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from siftline.imaging.colours import heat_colours

_LONGEST_THUMBNAIL = 8  # a scan longer than 8:1 is squeezed to 8:1, or its thumbnail would be a line
_OVERLAY_OPACITY = 0.8  # of the hottest spot; cold parts show the image untouched
_CELL_PX = 200
_CAPTION_PX = 18
_GAP_PX = 6
_PAPER = (24, 24, 27)
_INK = (228, 228, 231)


@dataclass(frozen=True, slots=True)
class SheetEntry:
    """One image of a contact sheet: pixels (H, W, 3) uint8, its heat, and a line of text.

    The heat is a grid (h, w) uint8, or what `heatmap_png` made of one: (H', W', 3) uint8.
    """

    rgb: NDArray[np.uint8]
    heat: NDArray[np.uint8]
    caption: str


def thumbnail_webp(rgb: NDArray[np.uint8], side: int) -> bytes:
    """WebP of an (H, W, 3) image, its longer side at most `side` pixels; never enlarged."""
    height, width = rgb.shape[:2]
    scale = min(1.0, side / max(height, width))
    shortest = max(1, min(height, width, side // _LONGEST_THUMBNAIL))
    size = (max(shortest, round(width * scale)), max(shortest, round(height * scale)))
    small = Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return _encoded(small, "WEBP", quality=80, method=4)


def heatmap_png(
    heat: NDArray[np.uint8], size: tuple[int, int], rgb: NDArray[np.uint8] | None = None
) -> bytes:
    """PNG of `size` (width, height): the heat grid, smoothly enlarged, over the image or by itself.

    `heat` is (h, w) uint8 on the scale of the whole version, 0 normal to 255 most suspect; never
    stretched per image, or a clean image would glow as brightly as a defective one.
    """
    return _encoded(Image.fromarray(_overlaid(heat, size, rgb)), "PNG", compress_level=6)


def contact_sheet(entries: Sequence[SheetEntry], columns: int = 4) -> bytes:
    """PNG: for each entry the image and, beside it, the image under its heat map, with the caption below.

    ValueError when there is nothing to show.
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns, len(entries))
    rows = -(-len(entries) // columns)
    cell = (2 * _CELL_PX + 3 * _GAP_PX, _CELL_PX + _CAPTION_PX + 2 * _GAP_PX)
    sheet = Image.new("RGB", (columns * cell[0], rows * cell[1]), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=13)
    for i, entry in enumerate(entries):
        left, top = (i % columns) * cell[0] + _GAP_PX, (i // columns) * cell[1] + _GAP_PX
        size = _fitted(entry.rgb, _CELL_PX)
        plain = Image.fromarray(entry.rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        if entry.heat.ndim == 3:
            hot = Image.fromarray(entry.heat).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
        else:
            hot = Image.fromarray(_overlaid(entry.heat, size, np.asarray(plain)))
        inset = ((_CELL_PX - size[0]) // 2, (_CELL_PX - size[1]) // 2)
        sheet.paste(plain, (left + inset[0], top + inset[1]))
        sheet.paste(hot, (left + _CELL_PX + _GAP_PX + inset[0], top + inset[1]))
        draw.text((left, top + _CELL_PX + 2), entry.caption, font=font, fill=_INK)
    return _encoded(sheet, "PNG", compress_level=6)


def _overlaid(
    heat: NDArray[np.uint8], size: tuple[int, int], rgb: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    if heat.ndim != 2 or heat.dtype != np.uint8:
        raise ValueError(f"a heat grid is (rows, columns) uint8, got {heat.shape} {heat.dtype}")
    levels = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BICUBIC))
    colours: NDArray[np.uint8] = heat_colours()[levels]
    if rgb is None:
        return colours
    under = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))
    opacity = (_OVERLAY_OPACITY / 255 * np.arange(256, dtype=np.float32))[levels][:, :, None]
    blended: NDArray[np.uint8] = np.rint(under + (colours - under.astype(np.float32)) * opacity).astype(
        np.uint8
    )
    return blended


def _fitted(rgb: NDArray[np.uint8], side: int) -> tuple[int, int]:
    """Width and height that fit a square cell, at least an eighth of it so that a long scan stays visible."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    return max(side // 8, round(width * scale)), max(side // 8, round(height * scale))


def _encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
