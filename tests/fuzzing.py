"""Images and archives as somebody who wants to do harm would make them, and what must hold for each.

`tests/unit/test_fuzz.py` tries a few hundred; `python -m benchmarks.fuzz` as many as there is time for.
"""

import hashlib
import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from siftline.imaging import ImageLimits, ImageRejected, decode_rgb, verify
from siftline.services.archives import FileRejected, expand, kind_of
from siftline.settings import Settings
from siftline.store.spool import SpooledFile, SpoolFolder

LIMITS = ImageLimits(max_pixels=1_000_000)
SETTINGS = Settings(max_entries=50, max_archive_bytes=4_000_000, max_file_bytes=1_000_000)
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
Kind = Literal["byte", "number", "delete", "repeat", "insert", "cut", "splice"]
KINDS: tuple[Kind, ...] = ("byte", "byte", "number", "number", "delete", "repeat", "insert", "cut", "splice")


@dataclass(frozen=True, slots=True)
class Step:
    """One change; `at` and `length` are shares of what is there, so that every step fits every file."""

    kind: Kind
    at: float
    length: float
    value: int


def changed(data: bytes, steps: Sequence[Step], others: Sequence[bytes]) -> bytes:
    """`data` after all steps; a splice goes on with one of the others."""
    for step in steps:
        at = int(step.at * len(data))
        end = min(len(data), at + 1 + int(step.length * 64))
        match step.kind:
            case "byte":
                data = data[:at] + bytes([step.value % 256]) + data[at + 1 :]
            case "number":
                form = ("<H", ">H", "<I", ">I")[step.value % 4]
                number = NUMBERS[step.value % len(NUMBERS)] % 256 ** struct.calcsize(form)
                data = data[:at] + struct.pack(form, number) + data[at + struct.calcsize(form) :]
            case "delete":
                data = data[:at] + data[end:]
            case "repeat":
                data = data[:end] + data[at:end] * (1 + step.value % 40) + data[end:]
            case "insert":
                data = data[:at] + hashlib.sha256(str(step).encode()).digest() + data[at:]
            case "cut":
                data = data[:at]
            case "splice":
                other = others[step.value % len(others)]
                data = data[:at] + other[int(step.length * len(other)) :]
    return data


@cache
def images() -> tuple[bytes, ...]:
    """One of each kind that is accepted, and some that are not."""
    grey = np.arange(40 * 30, dtype=np.uint32).reshape(30, 40)
    eight = Image.fromarray((grey % 251).astype(np.uint8))
    deep = Image.fromarray((grey * 50).astype(np.uint16))
    real = Image.fromarray(grey.astype(np.float32))
    rgb, rgba = eight.convert("RGB"), eight.convert("RGBA")
    exif = Image.Exif()
    exif[274] = 6
    made: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((one, "PNG", {}) for one in (eight, deep, rgb, rgba, eight.convert("1"), eight.convert("P"))),
        (rgb, "PNG", {"icc_profile": b"p" * 400, "exif": exif}),
        (eight, "JPEG", {}),
        (rgb, "JPEG", {"progressive": True, "exif": exif}),
        (rgb.convert("CMYK"), "JPEG", {}),
        *((one, "TIFF", {}) for one in (eight, deep, real, rgba)),
        *((rgb, "TIFF", {"compression": how}) for how in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")),
        (eight.convert("1"), "TIFF", {"compression": "group4"}),
        (eight, "TIFF", {"save_all": True, "append_images": [eight]}),
        *((one, "BMP", {}) for one in (eight, rgb, eight.convert("1"))),
        (eight, "GIF", {}),
        (eight, "GIF", {"save_all": True, "append_images": [eight.rotate(9)]}),
        (rgb, "WEBP", {"lossless": True}),
        (rgba, "WEBP", {}),
        *((one, "PPM", {}) for one in (eight, rgb, deep)),
    ]
    return tuple(_encoded(image, form, options) for image, form, options in made)


def _encoded(image: Image.Image, form: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def with_right_checksums(data: bytes) -> bytes:
    """A PNG whose chunks pass their checksum again, so that what is behind it is reached."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    at, whole = 8, data[:8]
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        chunk = data[at + 4 : at + 8 + length]
        whole += data[at : at + 4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        at += 12 + length
    return whole


def judge_image(data: bytes) -> str:
    """The code of the rejection, or `accepted`. Raises AssertionError when what must hold does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged metadata: the service does not raise them
        try:
            info = verify(data, LIMITS)
        except ImageRejected as rejected:
            return rejected.code
        assert 0 < info.width * info.height <= LIMITS.max_pixels
        rgb = decode_rgb(data, LIMITS)
    assert rgb.shape == (info.height, info.width, 3)
    assert rgb.dtype == np.uint8
    return "accepted"


@cache
def archives() -> tuple[bytes, ...]:
    """Tars are not packed: `packed` does that after they were changed."""
    files = {f"folder/{i}.png": image for i, image in enumerate(images()[:6])} | {"ü" * 120: b"long name"}
    return (
        *(_zip(files, how) for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)),
        *(_tar(files, form) for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)),
    )


def _zip(files: dict[str, bytes], how: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tar(files: dict[str, bytes], form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def packed(data: bytes, *, gzipped: bool) -> bytes:
    """A tar whose headers pass their checksum again, gzipped if asked; a zip as it is."""
    if data.startswith(b"PK"):
        return data
    blocks = bytearray(data)
    for at in range(0, len(blocks) - 511, 512):
        if blocks[at + 257 : at + 262] == b"ustar":
            blocks[at + 148 : at + 156] = b" " * 8
            blocks[at + 148 : at + 156] = b"%06o\0 " % sum(blocks[at : at + 512])
    return zlib.compress(bytes(blocks), 1, wbits=31) if gzipped else bytes(blocks)


def judge_archive(data: bytes, folder: SpoolFolder) -> str:
    """What became of it. Raises AssertionError when what must hold does not."""
    with folder.writer("archive") as writer:
        writer.write(data)
        archive = writer.close()
    try:
        if kind_of(archive.head) is None:
            return "no archive"
        before = set(_everything_near(folder))
        try:
            found = list(expand(archive, folder, SETTINGS, SETTINGS.max_entries))
        except FileRejected as rejected:
            return rejected.code
        files = [item for item in found if isinstance(item, SpooledFile)]
        assert len(found) <= SETTINGS.max_entries + 1  # and a word on the archive itself
        assert sum(file.size for file in files) <= SETTINGS.max_archive_bytes
        for file in files:
            assert file.path.parent == folder.path
            assert hashlib.sha256(file.path.read_bytes()).hexdigest() == file.sha256
        new = set(_everything_near(folder)) - before
        assert all(path.parent == folder.path for path in new)  # nothing was written where a name says
        return "whole" if len(files) == len(found) else "in part" if files else "nothing"
    finally:
        for path in folder.path.iterdir():
            path.unlink()


def _everything_near(folder: SpoolFolder) -> Iterator[Path]:
    return folder.path.parent.rglob("*")
