"""The body that the client sends, read back by the parser that the server uses."""

import os
from io import BytesIO
from pathlib import Path

import psutil
import pytest
from python_multipart import parse_form

from siftline.client.multipart import MultipartBody, find_files


def received(body: MultipartBody) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Fields and files by name, as a server reads them."""
    fields: dict[str, bytes] = {}
    files: dict[str, bytes] = {}
    headers = {name: value.encode() for name, value in body.headers.items()}

    def on_field(field: object) -> None:
        fields[field.field_name.decode()] = field.value  # type: ignore[attr-defined]  # untyped callbacks

    def on_file(file: object) -> None:
        file.file_object.seek(0)  # type: ignore[attr-defined]  # untyped callbacks
        files[file.file_name.decode()] = file.file_object.read()  # type: ignore[attr-defined]  # untyped callbacks

    parse_form(headers, BytesIO(b"".join(body)), on_field, on_file)
    return fields, files


def test_fields_and_files_arrive_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(os.urandom(700_000))
    (tmp_path / "empty.png").write_bytes(b"")
    body = MultipartBody({"name": "line 4 – été"}, find_files([tmp_path / "a.png", tmp_path / "empty.png"]))
    fields, files = received(body)
    assert fields == {"name": "line 4 – été".encode()}
    assert files == {"a.png": (tmp_path / "a.png").read_bytes(), "empty.png": b""}


def test_the_announced_length_is_the_real_one(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"12345")
    body = MultipartBody({"name": "n"}, find_files([tmp_path / "x.png"]))
    assert len(b"".join(body)) == body.size == int(body.headers["Content-Length"])


def test_sending_it_again_sends_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(os.urandom(300_000))
    body = MultipartBody({"name": "n"}, find_files([tmp_path / "x.png"]))
    assert b"".join(body) == b"".join(body)


def test_a_folder_is_walked_in_order_and_hidden_files_stay_at_home(tmp_path: Path) -> None:
    for name in ("b/2.png", "a/1.png", ".git/config", "a/.DS_Store", "3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert [part.name for part in find_files([tmp_path])] == ["3.png", "a/1.png", "b/2.png"]


def test_a_link_to_nothing_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(FileNotFoundError, match=r"gone\.png is a link to a file that is not there"):
        find_files([tmp_path])


def test_a_name_that_is_no_utf_8_is_sent_as_far_as_it_can_be_told(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/a\xff.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(b"x")
    assert [part.name for part in find_files([tmp_path])] == ["a\N{REPLACEMENT CHARACTER}.png"]
    assert b'filename="a\xef\xbf\xbd.png"' in b"".join(MultipartBody({}, find_files([tmp_path])))


def test_names_cannot_break_out_of_their_header(tmp_path: Path) -> None:
    evil = tmp_path / 'x"; name="y\r\nX: 1.png'
    evil.write_bytes(b"x")
    head = next(iter(MultipartBody({}, find_files([evil])))).decode()
    assert 'filename="x%22; name=%22y%0D%0AX: 1.png"' in head
    assert "\r\nX:" not in head


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_files([tmp_path / "nowhere"])


def test_a_file_that_shrinks_on_the_way_is_an_error_and_not_a_broken_upload(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"x" * 1000)
    body = MultipartBody({}, find_files([path]))
    path.write_bytes(b"x")
    with pytest.raises(OSError, match="became shorter"):
        b"".join(body)


def test_five_thousand_files_need_one_open_file_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"x")
    for number in range(1, 5000):
        (tmp_path / f"{number}.png").hardlink_to(tmp_path / "0.png")
    most = 0
    for number, _ in enumerate(MultipartBody({}, find_files([tmp_path]))):
        if number % 97 == 0:  # a look takes longer than a file
            opened = [file.path for file in psutil.Process().open_files()]
            most = max(most, sum(path.startswith(str(tmp_path.resolve())) for path in opened))
    assert most == 1


def test_progress_ends_at_the_whole(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x" * 600_000)
    seen: list[tuple[int, int | None]] = []
    body = MultipartBody({}, find_files([tmp_path / "x.png"]), lambda sent, total: seen.append((sent, total)))
    b"".join(body)
    assert seen[-1] == (body.size, body.size)
    assert [sent for sent, _ in seen] == sorted(sent for sent, _ in seen)
