"""A zip written while it is sent: nothing is compressed, so its length is known before the first byte.

Python's zipfile can stream too, but puts each CRC behind its entry then, which some readers refuse where
nothing is compressed, and cannot tell the length; and without a length a torn download looks whole to a
client behind an HTTP/1.0 proxy. Format: APPNOTE.TXT 6.3.10 (PKWARE), with zip64 where it is needed.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

CHUNK_BYTES = 1 << 18
FULL_16, FULL_32 = 0xFFFF, 0xFFFFFFFF
UTF8_NAMES = 0x800
REGULAR_FILE = 0o100644 << 16


class Torn(Exception):
    """The stored bytes are not what was promised; what was sent so far is no archive."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive; `open` gives exactly `size` bytes, and may be called once."""

    name: str
    size: int
    open: Callable[[], BinaryIO]


def length(members: Iterable[Member]) -> int:
    """Bytes of the whole archive."""
    offset, directory, count = 0, 0, 0
    for member in members:
        directory += len(_directory_entry(member, 0, offset, (0, 0)))
        offset += len(_local_header(member, 0, (0, 0))) + member.size
        count += 1
    return offset + directory + len(_end(count, directory, offset))


def stream(members: Iterable[Member], at: datetime, directory: BinaryIO) -> Iterator[bytes]:
    """The archive. `directory`: an empty file to note in what goes to the end.

    Raises Torn, FileNotFoundError and OSError when a member cannot be read whole.
    """
    offset, count, stamp = 0, 0, _dos_time(at)
    for member in members:
        with member.open() as file:
            crc = _crc(member, file)
            file.seek(0)
            header = _local_header(member, crc, stamp)
            yield header
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
        directory.write(_directory_entry(member, crc, offset, stamp))
        offset += len(header) + member.size
        count += 1
    size = directory.tell()
    directory.seek(0)
    while chunk := directory.read(CHUNK_BYTES):
        yield chunk
    yield _end(count, size, offset)


def _crc(member: Member, file: BinaryIO) -> int:
    crc = size = 0
    while chunk := file.read(CHUNK_BYTES):
        crc, size = zlib.crc32(chunk, crc), size + len(chunk)
    if size != member.size:
        raise Torn(f"{member.name} has {size} bytes, not {member.size}")
    return crc


def _local_header(member: Member, crc: int, stamp: tuple[int, int]) -> bytes:
    large = member.size >= FULL_32
    sizes = struct.pack("<HHQQ", 1, 16, member.size, member.size) if large else b""
    shown, name = min(member.size, FULL_32), member.name.encode()
    fixed = (45 if large else 20, UTF8_NAMES, 0, *stamp, crc, shown, shown, len(name), len(sizes))
    return b"PK\x03\x04" + struct.pack("<HHHHHIIIHH", *fixed) + name + sizes


def _directory_entry(member: Member, crc: int, offset: int, stamp: tuple[int, int]) -> bytes:
    wide = ([member.size] * 2 if member.size >= FULL_32 else []) + ([offset] if offset >= FULL_32 else [])
    extra = struct.pack(f"<HH{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    shown, name, needed = min(member.size, FULL_32), member.name.encode(), 45 if wide else 20
    made_by_unix = 3 << 8 | 45
    fixed = (made_by_unix, needed, UTF8_NAMES, 0, *stamp, crc, shown, shown, len(name), len(extra), 0, 0, 0)
    where = struct.pack("<II", REGULAR_FILE, min(offset, FULL_32))
    return b"PK\x01\x02" + struct.pack("<HHHHHHIIIHHHHH", *fixed) + where + name + extra


def _end(count: int, size: int, offset: int) -> bytes:
    wide = b""
    if count >= FULL_16 or size >= FULL_32 or offset >= FULL_32:
        record = struct.pack("<QHHIIQQQQ", 44, 3 << 8 | 45, 45, 0, 0, count, count, size, offset)
        locator = struct.pack("<IQI", 0, offset + size, 1)
        wide = b"PK\x06\x06" + record + b"PK\x06\x07" + locator
    shown = min(count, FULL_16), min(count, FULL_16), min(size, FULL_32), min(offset, FULL_32)
    return wide + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, *shown, 0)


def _dos_time(at: datetime) -> tuple[int, int]:
    year = max(at.year - 1980, 0)
    return at.hour << 11 | at.minute << 5 | at.second // 2, year << 9 | at.month << 5 | at.day
