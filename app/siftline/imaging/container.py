"""Opening an untrusted image file: which formats, how large, one exposure, and nothing else hidden in it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

Source: TypeAlias = bytes | str | Path | BinaryIO
"""Encoded image: its bytes, a path, or a seekable binary file (rewound by us, left open)."""

MEDIA_TYPES = {
    "bmp": "image/bmp",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "ppm": "image/x-portable-anymap",
    "tiff": "image/tiff",
    "webp": "image/webp",
}
"""The formats we accept, by our names for them. The rest of what Pillow reads is needless attack surface."""

_PILLOW_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8", b"P4", b"P5", b"P6")
_FOREIGN = {
    b"Rar!\x1a\x07": "a RAR archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"<script": "an HTML script",
    b"<SCRIPT": "an HTML script",
    b"<?php": "a PHP script",
}
_SCAN_BYTES = 1 << 20
_MOST_PREVIEWS = 64
_ZIP_TAIL_BYTES = 22 + 65_535  # an end-of-archive record and the longest comment that may follow it

# What Pillow's parsers raise on damaged files besides OSError; the tests cut and flip bytes to find more.
_PARSER_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, AttributeError,
    struct.error, zlib.error, RuntimeError, MemoryError,
)  # fmt: skip

# Our own limit is checked as soon as the header is read, before a pixel is decoded; Pillow's global guard
# would warn from 89 million pixels on and refuse line-camera scans that the operator has allowed.
Image.MAX_IMAGE_PIXELS = None


class ImageRejected(Exception):
    """An image that cannot be used. `code` is stable and for machines, `detail` is a sentence for people.

    Codes: not-an-image, unreadable-image, truncated-image, too-many-pixels, animated-image, polyglot-file,
    unsupported-pixels.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """How large an image may be once decoded. The byte limit on uploads is the ingest's."""

    max_pixels: int = 400_000_000


@contextmanager
def opened(source: Source, limits: ImageLimits) -> Iterator[Image.Image]:
    """The decoded image, pixels loaded, before any conversion.

    Raises ImageRejected for whatever is wrong with the content, OSError when a path itself cannot be opened.
    """
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as file:
            yield _load(file, limits)
    elif isinstance(source, bytes):
        yield _load(BytesIO(source), limits)
    else:
        source.seek(0)
        yield _load(source, limits)


def _load(file: BinaryIO, limits: ImageLimits) -> Image.Image:
    refuse_foreign_content(file)
    head = file.read(16)
    file.seek(0)
    try:
        image = Image.open(file, formats=_PILLOW_FORMATS)
    except _PARSER_ERRORS as error:
        raise _rejection(error, head) from error
    refuse_oversize(*image.size, limits)
    try:
        if _has_more_exposures(image):
            raise ImageRejected(
                "animated-image", "the file holds several frames or pages; send each image by itself"
            )
        image.load()
    except _PARSER_ERRORS as error:
        raise _rejection(error, head) from error
    return image


def refuse_oversize(width: int, height: int, limits: ImageLimits) -> None:
    """Raises ImageRejected(too-many-pixels)."""
    if width * height > limits.max_pixels:
        raise ImageRejected(
            "too-many-pixels", f"{width} x {height} pixels; at most {limits.max_pixels:,} are accepted"
        )


def _rejection(error: BaseException, head: bytes) -> ImageRejected:
    message = str(error).lower()
    if "truncated" in message or "not enough image data" in message or isinstance(error, EOFError):
        return ImageRejected("truncated-image", "the file ends before the image does")
    if isinstance(error, UnidentifiedImageError) and not head.startswith(_MAGIC):
        return ImageRejected(
            "not-an-image", f"not one of the accepted formats: {', '.join(sorted(MEDIA_TYPES))}"
        )
    return ImageRejected("unreadable-image", "the file is damaged, or of a pixel type that cannot be read")


def _has_more_exposures(image: Image.Image) -> bool:
    """Whether the file shows more than one picture: refused, as which one was meant is not ours to guess.

    Previews are not exposures: an MPO's second picture and a TIFF's reduced or mask pages are ignored.
    """
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return False
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return True
    for page in range(1, _MOST_PREVIEWS + 1):
        try:
            image.seek(page)
        except EOFError:
            image.seek(0)
            return False
        if (
            not image.tag_v2.get(254, 0) & 0b101
        ):  # NewSubfileType: bit 0 reduced resolution, bit 2 transparency mask
            return True
    return True  # a file of 500 MB can hold millions, each a second's fraction to look at


def refuse_foreign_content(file: BinaryIO) -> None:
    """A file that is also an archive, a PDF or a script is refused: some other program would open it as that.

    Leaves the file rewound. Raises ImageRejected(polyglot-file).
    """
    file.seek(0)
    chunk = file.read(_SCAN_BYTES)
    if b"%PDF-" in chunk[:1024]:
        raise ImageRejected("polyglot-file", "the file is also a PDF document")
    overlap = max(map(len, _FOREIGN)) - 1
    carried = b""
    while chunk:
        window = carried + chunk
        for signature, what in _FOREIGN.items():
            if signature in window:
                raise ImageRejected("polyglot-file", f"the file also holds {what}")
        carried = window[-overlap:]
        chunk = file.read(_SCAN_BYTES)
    size = file.tell()
    file.seek(max(0, size - _ZIP_TAIL_BYTES))
    if _ends_as_zip(file.read()):
        raise ImageRejected("polyglot-file", "the file is also a ZIP archive")
    file.seek(0)


def _ends_as_zip(tail: bytes) -> bool:
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        # Four bytes occur by chance in one of 65,000 compressed images; the comment's length must fit too.
        if at + 22 <= len(tail) and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail):
            return True
        at = tail.rfind(b"PK\x05\x06", 0, at)
    return False
