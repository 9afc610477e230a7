"""Archives of more entries than anybody may send."""

import io
import struct
import zipfile
from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient

from tests.integration.api.conftest import made, png, statuses, tarred, zipped

Start = Callable[..., TestClient]
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_what_is_passed_over_is_counted_too(api_with: Start) -> None:
    """A small tar.gz may hold a hundred million hidden files, each of which takes its time."""
    hidden = [(f".{i}", b"") for i in range(9)]
    api = api_with(max_entries=8)
    for pack in (zipped, tarred):
        assert statuses(made(api, ("a", pack(*hidden, ("1.png", png(1)))))) == [
            ("a", "rejected", "too-many-entries")
        ]
        assert statuses(made(api, ("a", pack(*hidden[:8], ("1.png", png(1)))))) == [
            ("1.png", "accepted", None)
        ]


def test_a_hundred_thousand_entries_are_refused_by_the_list_of_the_archive(api_with: Start) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("1.png", png(1))
    one, at = buffer.getvalue(), buffer.getvalue().index(b"PK\x01\x02")
    entry, end = one[at : one.index(b"PK\x05\x06")], bytearray(one[-22:])
    end[8:10] = end[10:12] = struct.pack("<H", 0xFFFF)
    end[12:16] = struct.pack("<I", 100_000 * len(entry))
    body = made(api_with(max_entries=10_000), ("a.zip", one[:at] + entry * 100_000 + bytes(end)))
    assert statuses(body) == [("a.zip", "rejected", "too-many-entries")]
