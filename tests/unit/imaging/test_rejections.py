"""Hostile and broken files end in an ImageRejected with the right code, never in anything else."""

import struct
import zipfile
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siftline.imaging import ImageLimits, ImageRejected, decode_rgb, verify

LIMITS = ImageLimits(max_pixels=1_000_000)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
FORMATS = ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "GIF"]


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def code_of(data: bytes) -> str:
    with pytest.raises(ImageRejected) as verified:
        verify(data, LIMITS)
    with pytest.raises(ImageRejected) as decoded:
        decode_rgb(data, LIMITS)
    assert verified.value.code == decoded.value.code
    assert verified.value.detail
    return verified.value.code


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello, I am text" * 100, b"PK\x03\x04" + bytes(100), bytes(4096)]
)
def test_other_content_is_not_an_image(data: bytes) -> None:
    assert code_of(data) == "not-an-image"


def test_formats_off_the_list_are_not_images_to_us() -> None:
    assert code_of(encoded(Image.fromarray(NOISE), "ICO")) == "not-an-image"
    assert code_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not-an-image"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of a cut TIFF before it raises
def test_a_file_cut_in_half_is_rejected(kind: str) -> None:
    data = encoded(Image.fromarray(NOISE), kind)
    assert code_of(data[: len(data) // 2]) in ("truncated-image", "unreadable-image")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "GIF"])
def test_a_cut_file_is_called_truncated(kind: str) -> None:
    data = encoded(Image.fromarray(NOISE), kind)
    assert code_of(data[: len(data) * 3 // 4]) == "truncated-image"


def test_a_header_alone_is_unreadable() -> None:
    assert code_of(encoded(Image.fromarray(NOISE), "PNG")[:12]) == "unreadable-image"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_damaged_bytes_never_escape_as_another_error(kind: str) -> None:
    whole = encoded(Image.fromarray(NOISE), kind)
    random = np.random.default_rng(1)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in random.integers(2, min(len(whole), 400), size=3):
            damaged[at] = random.integers(256)
        cut = bytes(damaged[: random.integers(20, len(whole) + 1)])
        try:
            info = verify(cut, LIMITS)
        except ImageRejected:
            continue
        assert decode_rgb(cut, LIMITS).shape == (info.height, info.width, 3)


def test_a_decompression_bomb_is_refused_before_it_is_decoded() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    assert code_of(bomb + chunk(b"IEND", b"")) == "too-many-pixels"


def test_the_pixel_limit_is_exact() -> None:
    data = encoded(Image.fromarray(NOISE), "PNG")
    assert verify(data, ImageLimits(max_pixels=60 * 80)).width == 80
    with pytest.raises(ImageRejected, match="too-many-pixels"):
        verify(data, ImageLimits(max_pixels=60 * 80 - 1))


def test_a_large_allowed_scan_meets_no_other_limit() -> None:
    data = encoded(Image.new("1", (20_000, 9_100)), "PNG")  # over Pillow's own limit of 179 million pixels
    assert verify(data, ImageLimits(max_pixels=200_000_000)).height == 9_100


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_stacks_of_pages_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(NOISE, 9 * i, axis=0)) for i in range(3)]
    assert code_of(encoded(frames[0], kind, save_all=True, append_images=frames[1:])) == "animated-image"


def test_a_tiff_with_a_reduced_preview_is_one_image() -> None:
    preview = Image.fromarray(NOISE[::4, ::4])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    data = encoded(Image.fromarray(NOISE), "TIFF", save_all=True, append_images=[preview])
    assert np.array_equal(decode_rgb(data, LIMITS), NOISE)


def test_a_camera_jpeg_with_a_preview_behind_it_is_one_jpeg() -> None:
    image = Image.fromarray(NOISE)
    data = encoded(image, "MPO", save_all=True, append_images=[Image.fromarray(NOISE[::4, ::4])])
    assert verify(data, LIMITS).format == "jpeg"
    assert decode_rgb(data, LIMITS).shape == NOISE.shape


def with_zip_behind(data: bytes) -> bytes:
    buffer = BytesIO(data)
    buffer.seek(0, 2)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("evil.class", b"x" * 100)
        archive.comment = b"a comment"
    return buffer.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_that_is_also_a_zip_archive_is_refused(kind: str) -> None:
    assert code_of(with_zip_behind(encoded(Image.fromarray(NOISE), kind))) == "polyglot-file"


@pytest.mark.parametrize(
    "tail",
    [
        b"<script>alert(1)</script>",
        b"<?php system($_GET['c']); ?>",
        b"Rar!\x1a\x07\x01\0",
        b"7z\xbc\xaf\x27\x1c",
    ],
)
def test_an_image_with_a_program_behind_it_is_refused(tail: bytes) -> None:
    data = encoded(Image.fromarray(NOISE), "JPEG")
    assert code_of(data + tail) == "polyglot-file"
    assert code_of(data + bytes((1 << 20) - len(data) - 3) + tail) == "polyglot-file"  # across two reads


def test_an_image_that_is_also_a_pdf_is_refused() -> None:
    assert code_of(encoded(Image.fromarray(NOISE), "JPEG", comment=b"%PDF-1.7 hidden")) == "polyglot-file"


def test_four_bytes_of_a_zip_by_chance_are_no_reason_to_refuse() -> None:
    data = encoded(Image.fromarray(NOISE), "JPEG")
    assert verify(data + b"PK\x05\x06" + bytes(range(1, 40)), LIMITS).format == "jpeg"


def test_pixels_without_a_conversion_to_rgb_are_refused() -> None:
    assert code_of(encoded(Image.fromarray(NOISE).convert("LAB"), "TIFF")) == "unsupported-pixels"
