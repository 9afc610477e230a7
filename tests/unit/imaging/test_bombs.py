"""Small files that ask for much: refused, or decoded within memory and processor time of their pixels."""

import io
import json
import multiprocessing
import resource
import struct
import time
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siftline.imaging import ImageLimits, ImageRejected, decode_rgb, verify

LIMITS = ImageLimits(max_pixels=1_000_000)
GROWTH_KB = 96 * 1024
CPU_S = 10.0
IMAGE = Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8))


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes) -> bytes:
    whole = encoded("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]  # behind the header


def packed(mebibytes: int) -> bytes:
    return zlib.compress(bytes(mebibytes << 20), 1)


def tiff(width: int, height: int, pages: int, *, loops_to: int = 0, subfile: int = 0) -> bytes:
    """Pages of one grey byte that claim a size; the last one points to page `loops_to`, if to any."""
    tags = [(254, subfile), (256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1),
            (278, height), (279, 1)]  # fmt: skip
    size = 2 + 12 * len(tags) + 4
    whole = bytearray(b"II*\0") + struct.pack("<I", 12) + b"\x80\0\0\0"
    for page in range(1, pages + 1):
        following = 12 + page * size if page < pages else (12 + (loops_to - 1) * size if loops_to else 0)
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        whole += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return bytes(whole)


def jpeg_with_profile(segments: int) -> bytes:
    whole, body = encoded("JPEG"), bytes(65_519)
    profile = b"".join(
        b"\xff\xe2" + struct.pack(">H", 2 + 14 + len(body)) + b"ICC_PROFILE\0" + bytes([n, segments]) + body
        for n in range(1, segments + 1)
    )
    return whole[:2] + profile + whole[2:]


def frames(kind: str, count: int) -> bytes:
    others = [Image.fromarray(np.full((64, 64), n % 251, np.uint8)) for n in range(count)]
    return encoded(kind, save_all=True, append_images=others)


MEBIBYTE = zlib.compress(bytes(1 << 20))
BOMBS: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "TIFF of four billion pixels": (lambda: tiff(65_535, 65_535, 1), {"too-many-pixels"}),
    "TIFF of 2**62 pixels": (lambda: tiff(2**31, 2**31, 1), {"too-many-pixels", "unreadable-image"}),
    "TIFF of 400 pages": (lambda: tiff(1, 1, 400), {"animated-image"}),
    "TIFF of 20,000 previews": (lambda: tiff(1, 1, 20_000, subfile=1), {"animated-image"}),
    "TIFF whose page follows itself": (lambda: tiff(1, 1, 1, loops_to=1), {"accepted", "unreadable-image"}),
    "TIFF whose previews go round": (lambda: tiff(1, 1, 9, loops_to=3, subfile=1), {"accepted"}),
    "PNG with a profile of 128 MiB": (
        lambda: png_with(chunk(b"iCCP", b"p\0\0" + packed(128))),
        {"unreadable-image", "accepted"},
    ),
    "PNG with a text of 128 MiB": (
        lambda: png_with(chunk(b"zTXt", b"t\0\0" + packed(128))),
        {"unreadable-image"},
    ),
    "PNG with 100 texts of 1 MiB": (
        lambda: png_with(*[chunk(b"zTXt", b"t%d\0\0" % n + MEBIBYTE) for n in range(100)]),
        {"unreadable-image"},
    ),
    "PNG with more rows than it says": (
        lambda: encoded("PNG")[:33] + chunk(b"IDAT", packed(128)) + chunk(b"IEND", b""),
        {"accepted", "unreadable-image"},
    ),
    "PPM of four billion pixels": (lambda: b"P5 65535 65535 255\n", {"too-many-pixels"}),
    "JPEG with a profile in 255 pieces": (lambda: jpeg_with_profile(255), {"accepted"}),
    "GIF of 500 pictures": (lambda: frames("GIF", 500), {"animated-image"}),
    "WebP of 60 pictures": (lambda: frames("WEBP", 60), {"animated-image"}),
}


def judged(data: bytes) -> str:
    try:
        verify(data, LIMITS)
        decode_rgb(data, LIMITS)
    except ImageRejected as rejected:
        return rejected.code
    return "accepted"


def judge_in_a_child(bombs: dict[str, bytes], told: Any) -> None:
    judged(encoded("PNG"))  # what is loaded once is nobody's fault
    for name, data in bombs.items():
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        code = judged(data)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        told.send(json.dumps([name, code, grown, time.process_time() - began]))
    told.close()


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[str, int, float]]:
    """By bomb: what became of it, by how much the process grew (KiB), its processor time (s).

    In a process of its own: its peak is nobody else's, and it may die.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    bombs = {name: make() for name, (make, _) in BOMBS.items()}
    child = spawn.Process(target=judge_in_a_child, args=(bombs, theirs))
    child.start()
    theirs.close()
    told = {}
    try:
        while True:
            name, *figures = json.loads(ours.recv())
            told[name] = tuple(figures)
    except EOFError:
        child.join()
    return told


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_takes_no_more_than_its_pixels_may(
    found: dict[str, tuple[str, int, float]], bomb: str
) -> None:
    assert bomb in found, "the process died of it, or of one before"
    code, grown_kb, cpu_s = found[bomb]
    assert code in BOMBS[bomb][1]
    assert grown_kb < GROWTH_KB
    assert cpu_s < CPU_S
