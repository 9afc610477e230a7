"""Exports and artifacts on their way to disk: whole under their name, or not there at all."""

import hashlib
import os
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pytest

from siftline import Client
from siftline.client.wholefile import whole_file
from siftline.domain.errors import NotFound, Unavailable
from tests.integration.commands import run
from tests.integration.scripted import DROP, Script, problem, scripted

THING = UUID(int=3)
CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with scripted(script) as address:
        yield address


def _first_byte(pipe: Path) -> bytes:
    with pipe.open("rb", buffering=0) as file:
        return file.read(1)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file of this process may have more than 100,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def artifact(content: bytes) -> dict[str, object]:
    return {
        "name": "model.onnx",
        "media_type": "application/octet-stream",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "schema_version": 1,
        "created_at": "2026-11-22T00:00:00Z",
        "url": "/x",
    }


def test_an_export_is_streamed_into_its_file(script: Script, url: str, tmp_path: Path) -> None:
    script.answers = [(200, CONTENT, {})]
    seen: list[tuple[int, int | None]] = []
    with Client(url) as client:
        path = client.export(
            THING, "csv", tmp_path / "a" / "b.csv", version=2, on_progress=lambda *now: seen.append(now)
        )
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert script.asked[0][1] == f"/datasets/{THING}/export?format=csv&version=2"


def test_a_connection_that_drops_in_the_middle_begins_again(script: Script, url: str, tmp_path: Path) -> None:
    torn = (200, CONTENT[:1000], {"Content-Length": str(len(CONTENT))})
    script.answers = [
        DROP,
        torn,
        (503, problem(503, "unavailable"), {"Retry-After": "0"}),
        (200, CONTENT, {}),
    ]
    with Client(url) as client:
        client.export(THING, "zip", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"]


def test_what_never_comes_whole_leaves_the_old_file_alone(script: Script, url: str, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"old")
    script.answers = [(200, CONTENT[:1000], {"Content-Length": str(len(CONTENT))})]
    with Client(url, attempts=2) as client, pytest.raises(Unavailable, match="broke off"):
        client.export(THING, "zip", tmp_path / "x.zip")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_said_and_leaves_nothing_behind(script: Script, url: str, tmp_path: Path) -> None:
    script.answers = [(200, CONTENT, {})]
    answer = run("export", THING, tmp_path / "x.csv", "--url", url)
    assert answer.returncode == 2
    assert f"{tmp_path / 'x.csv'}: File too large. Nothing was written there." in answer.stderr
    assert not list(tmp_path.iterdir())
    assert len(script.asked) == 1


def test_a_pipe_whose_reader_goes_away_is_not_replaced_by_a_file(
    script: Script, url: str, tmp_path: Path
) -> None:
    """A pipe of our own: a failing test must not leave a file where the machine has a device."""
    script.answers = [(200, CONTENT, {})]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        heard = pool.submit(lambda: _first_byte(pipe))
        answer = run("export", THING, pipe, "--format", "csv", "--url", url)
        assert heard.result() == CONTENT[:1]
    assert (answer.returncode, answer.stderr) == (1, "")  # as every tool whose reader has gone
    assert pipe.is_fifo()


def test_an_artifact_is_kept_when_its_hash_is_right(script: Script, url: str, tmp_path: Path) -> None:
    script.answers = [(200, [artifact(CONTENT)], {}), (200, CONTENT, {})]
    with Client(url) as client:
        path = client.download_artifact(THING, "model.onnx", tmp_path / "m.onnx")
    assert path.read_bytes() == CONTENT


def test_a_damaged_artifact_is_not_kept(script: Script, url: str, tmp_path: Path) -> None:
    script.answers = [(200, [artifact(CONTENT)], {}), (200, CONTENT[:-1] + b"x", {})]
    with Client(url) as client, pytest.raises(Unavailable, match="arrived damaged"):
        client.download_artifact(THING, "model.onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_an_artifact_that_is_not_there_names_those_that_are(script: Script, url: str, tmp_path: Path) -> None:
    script.answers = [(200, [artifact(CONTENT)], {})]
    with Client(url) as client, pytest.raises(NotFound, match=r"There are: model\.onnx"):
        client.download_artifact(THING, "weights", tmp_path / "w")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with whole_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_an_export_of_no_known_kind_is_a_usage_error(tmp_path: Path) -> None:
    answer = run("export", THING, tmp_path / "x.dat", "--url", "http://127.0.0.1:9")
    assert answer.returncode == 2
    assert "--format" in answer.stderr
