"""Uploads that want to do harm, or were made by machines that had a bad day."""

import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from siftline.settings import Settings
from tests.integration.api.conftest import (
    is_problem,
    made,
    png,
    spool_is_empty,
    statuses,
    tarred,
    upload,
    zipped,
)

Start = Callable[..., TestClient]
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_entries_that_point_outside_the_archive_are_refused(api: TestClient, tmp_path: Path) -> None:
    names = ["../up.png", "/etc/abs.png", "a/../../b.png", "C:\\windows.png", "..\\w.png"]
    body = made(
        api,
        ("a.zip", zipped(*[(name, png(i)) for i, name in enumerate(names)], ("ok.png", png(90)))),
        ("b.tar", tarred(("../up.png", png(50)), ("ok2.png", png(51)), mode="w")),
    )
    codes = [code for _, status, code in statuses(body) if status == "rejected"]
    assert codes == ["unsafe-path"] * 6
    assert [n for n, s, _ in statuses(body) if s == "accepted"] == ["ok.png", "ok2.png"]
    assert not list(tmp_path.rglob("*up.png"))


def test_links_and_devices_in_archives_are_refused(api: TestClient) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (
            ("sym.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("dev.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("ok.png")
        info.size = len(png(1))
        archive.addfile(info, io.BytesIO(png(1)))
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive_2:
        archive_2.writestr(link, "/etc/passwd")
    body = made(api, ("a.tar", buffer.getvalue()), ("b.zip", packed.getvalue()))
    assert statuses(body) == [
        ("sym.png", "rejected", "not-a-file"),
        ("hard.png", "rejected", "not-a-file"),
        ("dev.png", "rejected", "not-a-file"),
        ("ok.png", "accepted", None),
        ("link.png", "rejected", "not-a-file"),
    ]


def test_an_archive_in_an_archive_is_not_opened(api: TestClient) -> None:
    body = made(api, ("a.zip", zipped(("in.zip", zipped(("1.png", png(1)))), ("2.png", png(2)))))
    assert statuses(body) == [("in.zip", "rejected", "nested-archive"), ("2.png", "accepted", None)]


def test_what_file_managers_leave_in_archives_is_passed_over(api: TestClient) -> None:
    clutter = [("__MACOSX/._1.png", b"x"), (".DS_Store", b"x"), ("a/Thumbs.db", b"x"), ("a/", b"")]
    body = made(api, ("a.zip", zipped(*clutter, ("a/1.png", png(1)))))
    assert statuses(body) == [("a/1.png", "accepted", None)]


def test_an_empty_archive_gets_a_receipt(api: TestClient) -> None:
    body = made(api, ("a.zip", zipped()), ("b.tar", tarred(mode="w")), ("c.tgz", tarred()))
    assert statuses(body) == [
        ("a.zip", "rejected", "empty-archive"),
        ("b.tar", "rejected", "not-an-image"),  # nothing but zeros
        ("c.tgz", "rejected", "empty-archive"),
    ]


def test_a_zip_bomb_is_refused_as_a_whole(api: TestClient) -> None:
    bomb = zipped(("1.png", png(1)), ("zeros", bytes(3_000_000)))
    body = made(api, ("bomb.zip", bomb), ("2.png", png(2)))
    assert statuses(body) == [("bomb.zip", "rejected", "expansion-ratio"), ("2.png", "accepted", None)]


def test_a_tar_bomb_is_refused_even_if_it_hides_in_what_is_passed_over(api: TestClient) -> None:
    body = made(api, ("bomb.tar.gz", tarred((".hidden", bytes(30_000_000)), ("1.png", png(1)))))
    assert statuses(body) == [("bomb.tar.gz", "rejected", "expansion-ratio")]


def test_a_tar_header_of_many_megabytes_is_refused(api_with: Start) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("1.png")
        info.pax_headers = {"comment": "x" * 3_000_000}
        archive.addfile(info)
    body = made(api_with(), ("a.tar", buffer.getvalue()))
    assert statuses(body) == [("a.tar", "rejected", "oversized-header")]


def test_each_limit_of_an_archive_has_a_reason_of_its_own(api_with: Start) -> None:
    three = zipped(("1.png", png(1)), ("2.png", png(2)), ("3.png", png(3)))
    assert statuses(made(api_with(max_entries=2), ("a.zip", three))) == [
        ("a.zip", "rejected", "too-many-entries")
    ]
    assert statuses(made(api_with(max_archive_bytes=500), ("a.zip", three))) == [
        ("a.zip", "rejected", "archive-too-large")
    ]
    large = zipped(("1.png", png(1)), ("2.png", png(2, (200, 200))))
    assert statuses(made(api_with(max_file_bytes=2000), ("a.zip", large))) == [
        ("1.png", "accepted", None),
        ("2.png", "rejected", "file-too-large"),
    ]


def test_limits_of_a_tar_are_those_of_a_zip(api_with: Start) -> None:
    large = tarred(("1.png", png(1)), ("2.png", png(2, (200, 200))), ("3.png", png(3)), mode="w")
    assert statuses(made(api_with(max_file_bytes=2000), ("a.tar", large))) == [
        ("1.png", "accepted", None),
        ("2.png", "rejected", "file-too-large"),
        ("3.png", "accepted", None),
    ]
    assert statuses(made(api_with(max_entries=2), ("a.tar", large))) == [
        ("a.tar", "rejected", "too-many-entries")
    ]


def test_a_file_with_too_many_bytes_or_pixels_is_rejected_and_its_neighbour_is_not(api_with: Start) -> None:
    api = api_with(max_file_bytes=2000, max_image_pixels=1000)
    body = made(api, ("big.png", png(1, (200, 200))), ("wide.png", png(2, (1001, 1))), ("ok.png", png(3)))
    assert statuses(body) == [
        ("big.png", "rejected", "file-too-large"),
        ("wide.png", "rejected", "too-many-pixels"),
        ("ok.png", "accepted", None),
    ]


def test_a_decompression_bomb_is_refused_before_it_is_decoded(api: TestClient) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    assert statuses(made(api, ("bomb.png", bomb))) == [("bomb.png", "rejected", "too-many-pixels")]


def test_too_many_files_are_refused_as_a_request(api_with: Start) -> None:
    api = api_with(max_entries=2)
    assert is_problem(upload(api, *[(f"{i}.png", png(i)) for i in range(3)]), 413, "too-large")
    assert api.get("/datasets").json()["items"] == []


def test_a_request_of_too_many_bytes_is_refused(api_with: Start, settings: Settings) -> None:
    api = api_with(max_request_bytes=1000)
    assert is_problem(upload(api, ("a.png", png(1, (100, 100)))), 413, "too-large")

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = api.post("/datasets", content=iter([b"--b\r\n", *[bytes(100)] * 50]), headers=headers)
    assert is_problem(answer, 413, "too-large")
    assert spool_is_empty(settings)


def test_damaged_archives_keep_what_came_before_the_damage(api: TestClient) -> None:
    whole = tarred(*[(f"{i}.png", png(i, (90, 90))) for i in range(4)], mode="w")
    body = made(api, ("cut.tar", whole[: len(whole) // 2]))
    assert statuses(body)[0] == ("0.png", "accepted", None)
    assert statuses(body)[-1] == ("cut.tar", "rejected", "damaged-archive")

    broken = bytearray(whole)
    at = broken.index(b"2.png")
    broken[at : at + 5] = b"?.png"  # its checksum is wrong now
    found = statuses(made(api, ("broken.tar", bytes(broken))))
    assert [s for _, s, _ in found] == ["accepted", "accepted", "rejected"]

    cut = zipped(("1.png", png(1)))[:-30]
    assert statuses(made(api, ("cut.zip", cut))) == [("cut.zip", "rejected", "damaged-archive")]
    gzip_only = b"\x1f\x8b" + bytes(50)
    assert statuses(made(api, ("cut.tgz", gzip_only))) == [("cut.tgz", "rejected", "damaged-archive")]


def test_a_zip_entry_that_does_not_match_its_checksum_is_rejected_alone(api: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("1.png", png(1))
        archive.writestr("2.png", png(2))
    data = bytearray(buffer.getvalue())
    data[data.index(b"IDAT") + 20] ^= 0xFF
    body = made(api, ("a.zip", bytes(data)))
    assert statuses(body) == [("1.png", "rejected", "damaged-entry"), ("2.png", "accepted", None)]


def test_an_encrypted_entry_is_rejected_alone(api: TestClient) -> None:
    data = bytearray(zipped(("1.png", png(1)), ("2.png", png(2))))
    data[data.index(b"PK\x03\x04") + 6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    body = made(api, ("a.zip", bytes(data)))
    assert statuses(body) == [("1.png", "rejected", "encrypted-entry"), ("2.png", "accepted", None)]


def test_an_upload_that_was_cut_off_leaves_nothing(api: TestClient, settings: Settings) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="1.png"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = api.post("/datasets", content=head + png(1)[:50], headers=headers)
    assert is_problem(answer, 400, "bad-request")
    assert api.get("/datasets").json()["items"] == []
    assert spool_is_empty(settings)


def test_a_content_type_that_lies_is_not_believed(api: TestClient) -> None:
    files = [
        ("files", ("a.txt", png(1), "text/plain")),
        ("files", ("b.zip", png(2), "application/zip")),
        ("files", ("c.png", b"<html>", "image/png")),
        ("files", ("d.jpg", zipped(("in.png", png(3))), "image/jpeg")),
    ]
    body = api.post("/datasets", data={"name": "x"}, files=files).json()
    assert statuses(body) == [
        ("a.txt", "accepted", None),
        ("b.zip", "accepted", None),
        ("c.png", "rejected", "not-an-image"),
        ("in.png", "accepted", None),
    ]
    listed = api.get(f"/datasets/{body['dataset']['id']}/images").json()["items"]
    assert {image["format"] for image in listed} == {"png"}


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"", "multipart/form-data; boundary=b", 400, "bad-request"),
        (b"--b--\r\n", "multipart/form-data; boundary=b", 422, "validation-error"),
        (b"x", "multipart/form-data", 400, "bad-request"),
        (b"x", f"multipart/form-data; boundary={'b' * 300}", 400, "bad-request"),
        (b"--x\r\n\r\n", "multipart/form-data; boundary=b", 400, "bad-request"),
        (b"{}", "text/plain", 415, "unsupported-media-type"),
        (b"{", "application/json", 400, "bad-request"),
        (b"[" * 100_000, "application/json", 400, "bad-request"),
        (b"{}", "application/json", 422, "validation-error"),
        (b'{"name": "\\ud800", "source": {"uri": "file:///x"}}', "application/json", 422, "validation-error"),
        (b" " * 2_000_000, "application/json", 413, "too-large"),
    ],
)
def test_bodies_that_make_no_sense_are_problems(
    api: TestClient, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = api.post("/datasets", content=body, headers={"Content-Type": content_type})
    assert is_problem(answer, status, code)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": ""},
        {"name": "x" * 201},
        {"name": "nul \x00"},
        {"name": "x", "options": "{"},
        {"name": "x", "options": '{"subsets": 1}'},
        {"name": "x", "options": '{"unheard_of": 1}'},
        {"name": "x", "colour": "blue"},
    ],
)
def test_fields_that_do_not_fit_are_named(api: TestClient, fields: dict[str, str]) -> None:
    answer = api.post("/datasets", data=fields, files=[("files", ("a.png", png(1)))])
    assert is_problem(answer, 422, "validation-error")
    error = answer.json()["errors"][0]
    assert error["loc"][0] == "body"
    assert set(error) == {"loc", "msg", "type"}


def test_an_upload_without_files_is_refused(api: TestClient) -> None:
    answer = api.post("/datasets", files={"name": (None, "x")})
    assert is_problem(answer, 422, "validation-error")
    assert answer.json()["errors"] == [
        {"loc": ["body", "files"], "msg": "there is no file in the request", "type": "missing"}
    ]
