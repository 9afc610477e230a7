"""Every pixel type and container a line may produce decodes to the pixels a person would see."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siftline.imaging import ImageLimits, Tone, decode_rgb, tone_of_set, verify

LIMITS = ImageLimits()
RAMP = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8) * 2


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey_of(rgb: np.ndarray) -> np.ndarray:
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert np.array_equal(rgb[..., 0], rgb[..., 1])
    assert np.array_equal(rgb[..., 0], rgb[..., 2])
    return rgb[..., 0]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_grey_comes_back_exactly_from_every_lossless_format(kind: str) -> None:
    data = encoded(Image.fromarray(RAMP), kind)
    info = verify(data, LIMITS)
    assert (info.width, info.height, info.format, info.samples) == (64, 48, kind.lower(), None)
    assert info.media_type.startswith("image/")
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), RAMP)


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95})])
def test_lossy_formats_come_back_nearly(kind: str, options: dict[str, int]) -> None:
    rgb = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], axis=2)
    back = decode_rgb(encoded(Image.fromarray(rgb), kind, **options), LIMITS)
    assert np.abs(back.astype(int) - rgb).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_that_were_eight_decode_to_those_eight(kind: str) -> None:
    data = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), kind)
    info = verify(data, LIMITS)
    assert info.samples is not None
    assert (info.samples.low, info.samples.high) == (0, int(RAMP.max()) * 257)
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), RAMP)


def test_big_endian_sixteen_bit_tiff_decodes_like_little_endian() -> None:
    little = encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF")
    big = encoded(Image.frombytes("I;16B", (64, 48), (RAMP.astype(">u2") * 257).tobytes()), "TIFF")
    assert np.array_equal(decode_rgb(big, LIMITS), decode_rgb(little, LIMITS))


def test_a_twelve_bit_set_keeps_its_contrast_and_its_dark_image_stays_dark() -> None:
    bright = RAMP.astype(np.uint16) * 16 + 8  # up to 3,544 of 4,095
    dark = bright // 8
    files = [encoded(Image.fromarray(a), "PNG") for a in [bright] * 20 + [dark]]
    tone = tone_of_set(verify(data, LIMITS).samples for data in files)
    assert tone == Tone(0.0, 4095.0)
    seen = grey_of(decode_rgb(files[0], LIMITS, tone)).astype(int)
    assert np.abs(seen - RAMP).max() <= 1
    assert abs(decode_rgb(files[-1], LIMITS, tone).mean() - seen.mean() / 8) < 1


def test_one_stray_bright_file_does_not_darken_a_set() -> None:
    ranges = [verify(encoded(Image.fromarray(RAMP.astype(np.uint16) * 16), "PNG"), LIMITS).samples] * 30
    stray = verify(encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"), LIMITS).samples
    assert tone_of_set([*ranges, stray]) == Tone(0.0, 4095.0)


def test_a_set_of_eight_bit_images_needs_no_tone() -> None:
    assert tone_of_set([None, None]) is None


def test_a_tone_leaves_eight_bit_images_alone() -> None:
    data = encoded(Image.fromarray(RAMP), "PNG")
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS, Tone(0.0, 4095.0))), RAMP)


def test_a_float_tiff_between_zero_and_one_decodes_to_the_full_range() -> None:
    data = encoded(Image.fromarray((RAMP / 255).astype(np.float32)), "TIFF")
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), RAMP)


def test_a_depth_map_with_holes_decodes_by_its_sets_range() -> None:
    depth = 1200 + RAMP.astype(np.float32)
    depth[3, 5] = np.nan
    data = encoded(Image.fromarray(depth), "TIFF")
    samples = verify(data, LIMITS).samples
    assert samples is not None
    assert (samples.low, samples.high) == (1200, 1200 + int(RAMP.max()))
    grey = grey_of(decode_rgb(data, LIMITS, tone_of_set([samples])))
    assert grey[3, 5] == 0
    assert grey[-1, -1] == 255


def test_a_float_image_of_nothing_but_holes_is_black() -> None:
    data = encoded(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)), "TIFF")
    assert decode_rgb(data, LIMITS, tone_of_set([verify(data, LIMITS).samples])).max() == 0


def test_wide_integers_decode_by_their_own_depth() -> None:
    data = encoded(Image.fromarray(RAMP.astype(np.int32) * 16, "I"), "TIFF")
    assert np.abs(grey_of(decode_rgb(data, LIMITS)).astype(int) - RAMP).max() <= 1


def test_one_bit_images_become_black_and_white() -> None:
    data = encoded(Image.fromarray(RAMP > 100), "PNG")
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), np.where(RAMP > 100, 255, 0))


def test_a_palette_image_shows_its_colours() -> None:
    rgb = np.zeros((8, 8, 3), dtype=np.uint8)
    rgb[:4] = (200, 30, 10)
    rgb[4:] = (10, 60, 250)
    image = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    assert np.array_equal(decode_rgb(encoded(image, "PNG"), LIMITS), rgb)


def test_a_transparent_palette_colour_shows_the_grey_backdrop() -> None:
    image = Image.fromarray(np.repeat(np.array([[0], [1]], dtype=np.uint8), 4, axis=1), "P")
    image.putpalette([250, 0, 0, 0, 250, 0])
    rgb = decode_rgb(encoded(image, "PNG", transparency=0), LIMITS)
    assert rgb[0, 0].tolist() == [128, 128, 128]
    assert rgb[1, 0].tolist() == [0, 250, 0]


def test_transparent_pixels_show_the_grey_backdrop_and_opaque_ones_themselves() -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0] = (255, 255, 255, 0)
    rgba[1] = (9, 8, 7, 255)
    rgb = decode_rgb(encoded(Image.fromarray(rgba), "PNG"), LIMITS)
    assert rgb[0, 0].tolist() == [128, 128, 128]
    assert rgb[1, 1].tolist() == [9, 8, 7]
    la = Image.merge("LA", [Image.new("L", (2, 2), 40), Image.new("L", (2, 2), 255)])
    assert np.unique(decode_rgb(encoded(la, "PNG"), LIMITS)).tolist() == [40]


def test_a_cmyk_jpeg_shows_its_colours() -> None:
    flat = Image.new("RGB", (32, 32), (200, 40, 40)).convert("CMYK")
    data = encoded(flat, "JPEG", quality=95)
    assert verify(data, LIMITS).mode == "CMYK"
    assert np.abs(decode_rgb(data, LIMITS).astype(int) - (200, 40, 40)).max() <= 4


@pytest.mark.parametrize(
    ("kind", "orientation"), [(k, o) for k in ("JPEG", "PNG", "TIFF") for o in range(1, 9)]
)
def test_exif_rotated_images_stand_upright(kind: str, orientation: int) -> None:
    marked = np.zeros((32, 64), dtype=np.uint8)
    marked[:16, :32] = 255  # the mark is top left in what the camera saw
    stored_by_orientation = {
        1: marked, 2: marked[:, ::-1], 3: marked[::-1, ::-1], 4: marked[::-1], 5: marked.T,
        6: np.rot90(marked, 1), 7: np.rot90(marked, 2).T, 8: np.rot90(marked, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(stored_by_orientation[orientation]))
    data = encoded(stored, kind, exif=exif.tobytes() if kind != "TIFF" else exif)
    info = verify(data, LIMITS)
    assert (info.width, info.height) == (64, 32)
    assert np.abs(grey_of(decode_rgb(data, LIMITS)).astype(int) - marked).mean() < 2


def test_an_orientation_nobody_defined_changes_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    data = encoded(Image.fromarray(RAMP), "PNG", exif=exif.tobytes())
    assert verify(data, LIMITS).width == 64
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), RAMP)


def test_damaged_exif_does_not_hide_the_pixels() -> None:
    data = encoded(Image.fromarray(RAMP), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(grey_of(decode_rgb(data, LIMITS)), RAMP)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_line_camera_scan_decodes_whole(kind: str) -> None:
    scan = np.zeros((64, 20_000), dtype=np.uint8)
    scan[:, 19_000:] = 200
    data = encoded(Image.fromarray(scan), kind)
    assert (verify(data, LIMITS).width, verify(data, LIMITS).height) == (20_000, 64)
    rgb = decode_rgb(data, LIMITS)
    assert rgb.shape == (64, 20_000, 3)
    assert abs(int(rgb[32, 19_500, 0]) - 200) <= 2


def test_bytes_paths_and_open_files_decode_alike(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RAMP), "PNG")
    path = tmp_path / "misnamed.txt"
    path.write_bytes(data)
    with path.open("rb") as file:
        file.read(7)
        assert (
            verify(file, LIMITS) == verify(path, LIMITS) == verify(str(path), LIMITS) == verify(data, LIMITS)
        )
        assert np.array_equal(decode_rgb(file, LIMITS), decode_rgb(data, LIMITS))


def test_a_missing_path_is_the_callers_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "gone.png", LIMITS)
