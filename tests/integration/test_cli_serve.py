"""`siftline serve`: what starts, what stops, and what it refuses."""

import signal
import socket
from pathlib import Path
from uuid import UUID

import pytest

from siftline import Client
from siftline.schemas import DatasetOptions
from tests.conftest import PATIENCE_S
from tests.integration.commands import run
from tests.integration.served import Served, is_gone, serve, siftline, some_images

PAUSED = DatasetOptions(purify=False)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return some_images(tmp_path / "images", range(3))


def test_a_signal_stops_all_cleanly_and_what_was_sent_is_there_after_a_restart(
    tmp_path: Path, images: Path
) -> None:
    sent: list[tuple[UUID, int]] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with serve(tmp_path / "data") as served:
            worker = served.worker()
            with Client(served.url) as client:
                assert [(found.id, found.images) for found in client.datasets()] == sent
                dataset = client.upload("n", [images], PAUSED).dataset
                sent.insert(0, (dataset.id, dataset.images))
            served.process.send_signal(number)
            assert served.process.wait(PATIENCE_S) == 0
            assert is_gone(worker)
        assert "Traceback" not in served.log.read_text()


def test_a_worker_that_dies_is_started_again_and_one_whose_server_is_killed_goes_with_it(
    tmp_path: Path, images: Path
) -> None:
    folder = tmp_path / "data"
    with serve(folder) as served:
        refuses_to_share(served, folder, images)
        first = served.worker()
        first.kill()
        second = served.worker(other_than=first.pid)
        served.process.kill()
        assert is_gone(second)


def refuses_to_share(served: Served, folder: Path, images: Path) -> None:
    """A folder that a server holds is nobody else's."""
    second = siftline("serve", "--port", 0, "--data-dir", folder)
    purify = run("purify", images, "--data-dir", folder)
    for answer in (second, purify):
        assert answer.returncode == 1
        assert f"Process {served.process.pid} already works in {folder}" in answer.stderr
        assert answer.stderr.count("\n") == 1


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = siftline("serve", "--port", port, "--data-dir", tmp_path)
    assert answer.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {port}: address already in use" in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "api"])
def test_other_than_loopback_needs_a_key(tmp_path: Path, command: str) -> None:
    answer = run(command, "--host", "0.0.0.0", "--port", 0, "--data-dir", tmp_path)  # noqa: S104 - it must be refused
    assert answer.returncode == 2
    assert "SIFTLINE_API_KEY" in answer.stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    answer = run("serve", "--data-dir", tmp_path, SIFTLINE_LEASE_S="soon")
    assert answer.returncode == 2
    assert "SIFTLINE_LEASE_S" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("mysql://localhost/x", 2, "SIFTLINE_DATABASE_URL"),
        ("postgresql+psycopg://user:secret@127.0.0.1:9/x", 3, "does not answer"),
    ],
)
def test_a_database_out_of_reach_is_said_without_its_password(url: str, code: int, said: str) -> None:
    answer = run("migrate", SIFTLINE_DATABASE_URL=url)
    assert answer.returncode == code
    assert said in answer.stderr
    assert "secret" not in answer.stderr
    assert "Traceback" not in answer.stderr


def test_migrating_twice_does_no_harm(tmp_path: Path) -> None:
    for _ in range(2):
        answer = run("migrate", "--data-dir", tmp_path / "data")
        assert answer.returncode == 0
        assert "The database is at revision" in answer.stderr
