"""Archives are whole, have the announced length, and break aloud; names in them are safe and never meet."""

import io
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftline.services.exports.names import SafeNames
from siftline.services.exports.zipping import Member, Torn, length, stream

AT = datetime(2026, 11, 22, 4, 30, 58, tzinfo=UTC)


def member(name: str, content: bytes, size: int | None = None) -> Member:
    opened: Callable[[], BinaryIO] = partial(io.BytesIO, content)
    return Member(name, len(content) if size is None else size, opened)


@given(st.lists(st.tuples(st.text("aé/😀", min_size=1), st.binary(max_size=2000)), unique_by=lambda m: m[0]))
def test_what_goes_in_comes_out_and_the_length_was_known(content: list[tuple[str, bytes]]) -> None:
    members = [member(f"d/{name}x", data) for name, data in content]
    data = b"".join(stream(members, AT, io.BytesIO()))
    assert len(data) == length(members)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert [(i.filename, archive.read(i)) for i in archive.infolist()] == [
            (f"d/{n}x", d) for n, d in content
        ]
        assert {i.date_time for i in archive.infolist()} <= {(2026, 11, 22, 4, 30, 58)}


def test_more_files_than_the_old_format_can_count() -> None:
    members = [member(str(i), b"") for i in range(65_540)]
    data = b"".join(stream(members, AT, io.BytesIO()))
    assert len(data) == length(members)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert len(archive.infolist()) == 65_540


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_of_another_size_than_promised_breaks_the_stream(size: int) -> None:
    chunks = stream([member("good", b"1234"), member("bad", b"1234", size)], AT, io.BytesIO())
    with pytest.raises(Torn):
        list(chunks)


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=20), st.booleans())
def test_whatever_a_name_is_made_of_it_is_safe_and_unlike_all_others(names: list[str], flat: bool) -> None:
    safe = SafeNames(flat=flat)
    given_out = [safe.name(name, "png", f"{i:064x}") for i, name in enumerate(names)]
    assert len({name.casefold() for name in given_out}) == len(names)
    folders = {name.rpartition("/")[0].casefold() for name in given_out}
    for name in given_out:
        assert name.casefold() not in folders
        assert name.lower().endswith(".png")
        assert not set(name) & set('\\:*?"<>|\x00\n')
        assert not {"", ".", ".."} & set(name.split("/"))
        assert all(len(part.encode()) <= 255 for part in name.split("/"))
        assert not (flat and "/" in name)


def test_a_name_made_to_meet_another_ones_suffix_does_not() -> None:
    safe = SafeNames()
    sha = "ab" * 32
    wanted = ["a.png", f"a~{sha[:16]}.png", "a.png"]
    assert len({safe.name(name, "png", sha) for name in wanted}) == 3
