"""Pictures for people: right size, right place, one colour scale."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from siftline.imaging import SheetEntry, contact_sheet, heatmap_png, thumbnail_webp
from siftline.imaging.colours import heat_colours

RGB = np.random.default_rng(0).integers(60, 120, (120, 200, 3), dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    return Image.open(BytesIO(data))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((120, 200, 3), (64, 38)),
        ((200, 120, 3), (38, 64)),
        ((20, 30, 3), (30, 20)),
        ((64, 20_000, 3), (64, 8)),
        ((1, 1, 3), (1, 1)),
    ],
)
def test_thumbnails_fit_are_never_enlarged_and_never_vanish(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    small = opened(thumbnail_webp(np.full(shape, 90, dtype=np.uint8), 64))
    assert small.format == "WEBP"
    assert small.size == size


def test_every_step_of_the_heat_scale_is_equally_lighter() -> None:
    linear = (heat_colours() / 255.0) ** 2.2
    luminance = linear @ (0.2126, 0.7152, 0.0722)
    lightness = np.cbrt(luminance)
    assert (np.diff(lightness[4:]) > -0.002).all()
    coarse = np.diff(lightness[10::35])
    assert coarse.min() > 0.5 * coarse.max()


def test_a_heat_map_is_brightest_where_the_grid_is() -> None:
    heat = np.zeros((4, 8), dtype=np.uint8)
    heat[1, 6] = 255
    image = opened(heatmap_png(heat, (160, 80)))
    assert image.size == (160, 80)
    luminance = np.asarray(image.convert("L")).astype(int)
    row, column = np.unravel_index(luminance.argmax(), luminance.shape)
    assert (int(row) // 20, int(column) // 20) == (1, 6)


def test_a_cold_overlay_leaves_the_image_as_it_is() -> None:
    cold = np.zeros((4, 4), dtype=np.uint8)
    assert np.array_equal(np.asarray(opened(heatmap_png(cold, (200, 120), RGB))), RGB)


def test_a_uniformly_warm_grid_is_not_stretched_to_the_full_scale() -> None:
    warm = np.full((4, 4), 80, dtype=np.uint8)
    assert np.unique(np.asarray(opened(heatmap_png(warm, (20, 20)))).reshape(-1, 3), axis=0).tolist() == [
        heat_colours()[80].tolist()
    ]


def test_a_heat_grid_must_be_bytes() -> None:
    with pytest.raises(ValueError, match="uint8"):
        heatmap_png(np.zeros((4, 4), dtype=np.float32), (10, 10))


def test_a_contact_sheet_shows_image_and_heat_map_of_every_entry() -> None:
    heat = np.zeros((4, 4), dtype=np.uint8)
    heat[2, 2] = 255
    sheet = opened(
        contact_sheet([SheetEntry(RGB, heat, f"{i + 1}.  score 0.9{i}") for i in range(5)], columns=3)
    )
    pixels = np.asarray(sheet.convert("RGB")).astype(int)
    assert sheet.format == "PNG"
    cell_h, cell_w = pixels.shape[0] // 2, pixels.shape[1] // 3
    for i in range(5):
        cell = pixels[(i // 3) * cell_h :, (i % 3) * cell_w :][:cell_h, :cell_w]
        plain, hot = cell[:200, : cell_w // 2], cell[:200, cell_w // 2 :]
        assert plain.max() <= 130  # the entry's own pixels and paper, no heat colours
        assert hot.max() > 180
        assert cell[206:].max() > 200  # the caption
    assert pixels[cell_h:, 2 * cell_w :].max() < 40  # the empty sixth place


def test_an_empty_contact_sheet_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
