"""Whatever bytes claim to be an archive: files and refusals come out, never a surprise."""

import hashlib
import io
import random
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from siftline.services.archives import FileRejected, RefusedFile, expand, is_clutter, kind_of
from siftline.settings import Settings
from siftline.store.spool import HEAD_BYTES, Spool, SpooledFile, SpoolFolder

SETTINGS = Settings(max_entries=50, max_archive_bytes=4_000_000)
CONTENTS = {f"folder/{i}.bin": bytes([i]) * 700 * i for i in range(6)} | {"ü" * 120: b"long name"}


def zip_bytes(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in CONTENTS.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_bytes(mode: str, kind: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=kind) as archive:  # type: ignore[call-overload]  # mode is a str here
        for name, data in CONTENTS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


ARCHIVES = {
    "stored zip": zip_bytes(zipfile.ZIP_STORED),
    "deflated zip": zip_bytes(zipfile.ZIP_DEFLATED),
    "bzip2 zip": zip_bytes(zipfile.ZIP_BZIP2),
    "pax tar": tar_bytes("w", tarfile.PAX_FORMAT),
    "gnu tar": tar_bytes("w", tarfile.GNU_FORMAT),
    "tar.gz": tar_bytes("w:gz", tarfile.PAX_FORMAT),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[SpoolFolder]:
    spool = Spool(tmp_path)
    spool.open()
    with spool.folder() as folder:
        yield folder
    spool.close()


def spooled(folder: SpoolFolder, data: bytes) -> SpooledFile:
    with folder.writer("archive") as writer:
        writer.write(data)
        return writer.close()


@pytest.mark.parametrize("kind", ARCHIVES)
def test_every_entry_comes_out_with_its_bytes_and_its_hash(folder: SpoolFolder, kind: str) -> None:
    found = list(expand(spooled(folder, ARCHIVES[kind]), folder, SETTINGS, 50))
    files = [item for item in found if isinstance(item, SpooledFile)]
    assert {file.name: file.path.read_bytes() for file in files} == CONTENTS
    assert all(file.sha256 == hashlib.sha256(CONTENTS[file.name]).hexdigest() for file in files)
    assert len(files) == len(found)


@pytest.mark.parametrize("kind", ARCHIVES)
def test_damaged_bytes_never_surprise(folder: SpoolFolder, kind: str) -> None:
    """Seeded: 150 copies of each archive, cut, with bytes changed, or with pieces swapped."""
    chance = random.Random(kind)  # noqa: S311 - a test wants the same damage each time
    for _ in range(150):
        data = bytearray(ARCHIVES[kind])
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 127, 255, chance.randrange(256)))
        if chance.random() < 0.3:
            del data[chance.randrange(1, len(data)) :]
        archive = spooled(folder, bytes(data))
        if kind_of(archive.head) is None:
            continue
        with suppress(FileRejected):
            found = list(expand(archive, folder, SETTINGS, 50))
            assert all(isinstance(item, SpooledFile | RefusedFile) for item in found)


@pytest.mark.parametrize("kind", ["pax tar", "gnu tar"])
def test_a_tar_whose_header_is_damaged_says_so_instead_of_ending_early(
    folder: SpoolFolder, kind: str
) -> None:
    data = bytearray(ARCHIVES[kind])
    data[data.index(b"folder/3.bin") + 150] ^= 1  # inside the checksum of the fourth header
    found = list(expand(spooled(folder, bytes(data)), folder, SETTINGS, 50))
    assert [item.name for item in found if isinstance(item, SpooledFile)] == list(CONTENTS)[:3]
    assert isinstance(found[-1], RefusedFile)
    assert found[-1].reason.startswith("damaged-archive:")


def test_a_sparse_entry_that_claims_a_terabyte_is_refused(folder: SpoolFolder) -> None:
    header = bytearray(tarfile.TarInfo("sparse.bin").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398] = header[398:410] = b"00000000000\0"
    header[483:495] = b"77777777777\0"  # 8 GiB, all of them zeros that are nowhere
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    found = list(expand(spooled(folder, bytes(header) + bytes(1024)), folder, SETTINGS, 50))
    assert [item.reason.partition(":")[0] for item in found if isinstance(item, RefusedFile)] == [
        "not-a-file"
    ]
    assert len(found) == 1


def test_an_entry_without_a_name_is_a_file_like_any_other(folder: SpoolFolder) -> None:
    """Found by damaging archives: zipfile's own `is_dir` raises IndexError for it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("qx", b"bytes")
    nameless = buffer.getvalue().replace(b"qx", b"\0x")  # zipfile reads names up to the NUL
    found = list(expand(spooled(folder, nameless), folder, SETTINGS, 50))
    assert [(item.name, type(item)) for item in found] == [("", SpooledFile)]


def test_a_zip_that_lists_more_than_it_may_is_refused_before_its_list_is_read(folder: SpoolFolder) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(2000):
            archive.writestr(f"{i:060}", b"")
    with pytest.raises(FileRejected, match="too-many-entries: the archive lists"):
        list(expand(spooled(folder, buffer.getvalue()), folder, SETTINGS, 50))


def test_kinds_are_told_by_content() -> None:
    assert {kind_of(data[:HEAD_BYTES]) for data in ARCHIVES.values()} == {"zip", "tar", "tar.gz"}
    assert kind_of(b"\x89PNG\r\n\x1a\n") is None
    assert kind_of(b"") is None


@pytest.mark.parametrize("name", [".DS_Store", "a/.x", ".git/a.png", "__MACOSX/a.png", "a/THUMBS.DB"])
def test_clutter_is_what_no_user_put_there(name: str) -> None:
    assert is_clutter(name)


@pytest.mark.parametrize("name", ["a.png", "", "..", "a/..", "../.x", "./a.png", "a.b/c"])
def test_everything_else_gets_a_receipt(name: str) -> None:
    assert not is_clutter(name)
