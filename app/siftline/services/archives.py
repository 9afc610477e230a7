"""Archives, entry by entry, as if each were sent to harm: nothing is unpacked where its name says.

An archive that breaks a limit is refused as a whole; of a damaged one, what could be read is kept.
"""

import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from tarfile import HeaderError
from typing import IO, Literal, Self, TypeVar, cast

from siftline.settings import Settings
from siftline.store.spool import SpooledFile, SpoolFolder

CHUNK_BYTES = 1 << 18
FREE_BYTES = 1 << 20  # whatever the ratio: a small tar is mostly the zeros it is padded with
TAR_HEADER_BYTES = 1 << 20  # between two entries; tarfile reads extended headers into memory
ZIP_DIRECTORY_BYTES_PER_ENTRY = 256  # zipfile reads the central directory into memory, in one piece
# No lzma: an entry may ask for a dictionary of 4 GiB.
ZIP_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2}
ENDS_OF_TAR = {"EOFHeaderError", "EmptyHeaderError"}  # tarfile keeps these to itself
CLUTTER = {"__macosx", "thumbs.db", "desktop.ini", "ehthumbs.db"}
DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError,
    ValueError, RuntimeError,
)  # fmt: skip

T = TypeVar("T")
ArchiveKind = Literal["zip", "tar", "tar.gz"]


class FileRejected(Exception):
    """A file that is not taken. `code` is stable and for machines, `detail` is a sentence for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class _EntryRejected(FileRejected):
    """One entry is not taken; its neighbours may be."""


class _Damaged(Exception):
    """The bytes are not what an archive of this kind holds."""


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file, entry or archive that brought no image; `reason` starts with a stable code."""

    name: str
    reason: str
    sha256: str | None = None


class Allowance:
    """What one archive may still give. Raises FileRejected when it gives more."""

    def __init__(self, settings: Settings, packed_bytes: int, entries: int) -> None:
        self.settings = settings
        self.entries = entries
        self.passed_over = settings.max_entries
        self.bytes = settings.max_archive_bytes
        self.ratio_bytes = max(FREE_BYTES, int(packed_bytes * settings.max_expansion_ratio))
        self.tar_headers: int | None = None

    def take_entry(self) -> None:
        self.entries -= 1
        if self.entries < 0:
            raise FileRejected(
                "too-many-entries",
                f"a request may bring {self.settings.max_entries} files, archive entries included",
            )

    def pass_over(self) -> None:
        """Folders and clutter bring no file, but reading past a hundred million of them takes an hour."""
        self.passed_over -= 1
        if self.passed_over < 0:
            raise FileRejected("too-many-entries", "the archive holds too many folders and hidden files")

    def take_bytes(self, count: int) -> None:
        self.bytes -= count
        self.ratio_bytes -= count
        if self.bytes < 0:
            limit = self.settings.max_archive_bytes
            raise FileRejected("archive-too-large", f"the archive unpacks to more than {limit} bytes")
        if self.ratio_bytes < 0:
            ratio = self.settings.max_expansion_ratio
            raise FileRejected(
                "expansion-ratio", f"the archive unpacks to more than {ratio:g} times its size"
            )
        if self.tar_headers is not None:
            self.tar_headers -= count
            if self.tar_headers < 0:
                raise FileRejected("oversized-header", "the archive's headers are larger than any real one's")


class _Reader(io.RawIOBase):
    """Reads unpacked bytes against an allowance; whatever a damaged archive raises becomes _Damaged."""

    def __init__(self, source: IO[bytes], allowance: Allowance) -> None:
        self.source = source
        self.allowance = allowance

    def read(self, size: int = -1) -> bytes:
        data = _or_damaged(partial(self.source.read, size))
        self.allowance.take_bytes(len(data))
        return data


def kind_of(head: bytes) -> ArchiveKind | None:
    """What the first 512 bytes say; names are not asked."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head.startswith(b"\x1f\x8b"):
        return "tar.gz"
    return "tar" if head[257:262] == b"ustar" else None


def is_clutter(name: str) -> bool:
    """Hidden files and folders and what file managers leave behind: passed over without a receipt."""
    parts = PurePosixPath(name).parts
    if ".." in parts:
        return False
    return any(part.startswith(".") or part.lower() in CLUTTER for part in parts)


def expand(
    archive: SpooledFile, folder: SpoolFolder, settings: Settings, entries: int
) -> Iterator[SpooledFile | RefusedFile]:
    """The files of an archive, each spooled and hashed, and a word on every entry that is none.

    `entries` is how many files it may bring. Raises FileRejected when a limit is broken: what came before is
    then to be dropped.
    """
    allowance = Allowance(settings, archive.size, entries)
    unpack = _expand_zip if kind_of(archive.head) == "zip" else _expand_tar
    try:
        yield from unpack(archive, folder, allowance)
    except _Damaged:
        yield RefusedFile(
            archive.name,
            "damaged-archive: it can be read no further; what came before is kept",
            archive.sha256,
        )


class _DirectoryBound(io.BufferedReader):
    """Keeps zipfile from reading a central directory larger than the entries allowed can need."""

    largest = 1 << 16

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.largest:
            raise FileRejected("too-many-entries", "the archive lists more files than a request may bring")
        return super().read(size)


def _expand_zip(
    archive: SpooledFile, folder: SpoolFolder, allowance: Allowance
) -> Iterator[SpooledFile | RefusedFile]:
    with _DirectoryBound(io.FileIO(archive.path)) as file:
        file.largest = max(1 << 16, allowance.entries * ZIP_DIRECTORY_BYTES_PER_ENTRY)
        with _or_damaged(partial(zipfile.ZipFile, file)) as unzipped:
            for info in unzipped.infolist():
                name = info.filename.replace("\\", "/")
                if name.endswith("/") or is_clutter(name):
                    allowance.pass_over()
                    continue
                allowance.take_entry()
                try:
                    yield _zip_entry(unzipped, info, name, folder, allowance)
                except _EntryRejected as rejected:
                    yield RefusedFile(name, str(rejected))
                except _Damaged:
                    yield RefusedFile(name, "damaged-entry: the entry's bytes do not match their checksum")


def _zip_entry(
    unzipped: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, folder: SpoolFolder, allowance: Allowance
) -> SpooledFile:
    _refuse_unsafe_path(name)
    if info.flag_bits & 0x1:
        raise _EntryRejected("encrypted-entry", "the entry is encrypted")
    if info.compress_type not in ZIP_METHODS:
        raise _EntryRejected("unsupported-compression", "use deflate, bzip2 or no compression")
    file_type = stat.S_IFMT(info.external_attr >> 16)
    if file_type not in (0, stat.S_IFREG):
        raise _EntryRejected("not-a-file", "the entry is a link or a device")
    with _or_damaged(partial(unzipped.open, info)) as source:
        counted = cast(IO[bytes], _Reader(source, allowance))
        return _spool(name, counted, folder, allowance.settings.max_file_bytes)


def _expand_tar(
    archive: SpooledFile, folder: SpoolFolder, allowance: Allowance
) -> Iterator[SpooledFile | RefusedFile]:
    packed = kind_of(archive.head) == "tar.gz"
    with gzip.open(archive.path) if packed else archive.path.open("rb") as file:
        stream = cast(IO[bytes], _Reader(cast(IO[bytes], file), allowance))
        opening = partial(tarfile.open, fileobj=stream, mode="r|", tarinfo=_strict_headers(allowance))
        with _or_damaged(opening) as untarred:
            while (member := _or_damaged(untarred.next)) is not None:
                untarred.members = []  # type: ignore[attr-defined]  # or it keeps them all
                if member.isdir() or is_clutter(member.name):
                    allowance.pass_over()
                    continue
                allowance.take_entry()
                try:
                    yield _tar_entry(untarred, member, folder, allowance)
                except _EntryRejected as rejected:
                    yield RefusedFile(member.name, str(rejected))


def _strict_headers(allowance: Allowance) -> type[tarfile.TarInfo]:
    """Headers that are bounded, and that say so when they are damaged: tarfile takes that for the end."""

    class StrictHeader(tarfile.TarInfo):
        @classmethod
        def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
            outermost = allowance.tar_headers is None  # a long name is a header in front of a header
            if outermost:
                allowance.tar_headers = TAR_HEADER_BYTES
            try:
                return super().fromtarfile(tarfile)
            except HeaderError as error:
                if type(error).__name__ in ENDS_OF_TAR:
                    raise
                raise _Damaged from error
            finally:
                if outermost:
                    allowance.tar_headers = None

    return StrictHeader


def _tar_entry(
    untarred: tarfile.TarFile, member: tarfile.TarInfo, folder: SpoolFolder, allowance: Allowance
) -> SpooledFile:
    _refuse_unsafe_path(member.name)
    if not member.isfile() or member.issparse():
        raise _EntryRejected("not-a-file", "the entry is a link, a device or a sparse file")
    source = untarred.extractfile(member)
    assert source is not None  # noqa: S101 - only links and devices have no data
    return _spool(member.name, source, folder, allowance.settings.max_file_bytes)


def _refuse_unsafe_path(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise _EntryRejected("unsafe-path", "the entry's name points outside the archive")


def _spool(name: str, source: IO[bytes], folder: SpoolFolder, limit: int) -> SpooledFile:
    with folder.writer(name) as writer:
        while chunk := _or_damaged(partial(source.read, CHUNK_BYTES)):
            writer.write(chunk)
            if writer.size > limit:
                writer.discard()
                raise _EntryRejected("file-too-large", f"the file has more than {limit} bytes")
        spooled = writer.close()
    if kind_of(spooled.head) is not None:
        spooled.path.unlink()
        raise _EntryRejected(
            "nested-archive", "an archive inside an archive is not opened; send it by itself"
        )
    return spooled


def _or_damaged(read: Callable[[], T]) -> T:
    # Only reading is wrapped: a full disk while writing is no fault of the archive's.
    try:
        return read()
    except DAMAGE as error:
        raise _Damaged from error
