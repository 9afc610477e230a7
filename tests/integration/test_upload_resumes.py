"""An upload killed at any point, and run again: every image arrives once, and is sent once."""

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from siftline import Client
from siftline.schemas import DatasetOptions
from tests.conftest import PATIENCE_S
from tests.integration.api.server import Server
from tests.integration.commands import run
from tests.integration.served import SIFTLINE, clean_environment, some_images

When = Literal["before", "after"]


class Proxy:
    """Passes bytes on to a server, until the request or the answer of the `hold_at`-th POST is due."""

    def __init__(self, server: int, hold_at: int, when: When) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.held = threading.Event()
        self.sent = b""
        self._server, self._hold_at, self._when = server, hold_at, when

    def serve(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server))
            for source, target, onward in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, target, onward), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, onward: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if onward:
                    self.sent += data
                due = not self.held.is_set() and self.sent.count(b"POST /datasets") == self._hold_at
                if due and (self._when == "before") == onward:
                    self.held.set()
                    return
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()


@contextmanager
def proxy(server: int, hold_at: int, when: When) -> Iterator[Proxy]:
    between = Proxy(server, hold_at, when)
    thread = threading.Thread(target=between.serve)
    thread.start()
    try:
        yield between
    finally:
        between.listener.shutdown(socket.SHUT_RDWR)
        between.listener.close()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without a worker: a purification that was asked for stays in the queue to be counted."""
    server = Server(tmp_path_factory.mktemp("server") / "data")
    server.start()
    yield server
    server.kill()


# Three batches of four images, and then the purification: the fourth POST.
@pytest.mark.parametrize(("hold_at", "when"), [(1, "after"), (2, "before"), (4, "after")])
def test_the_same_command_after_a_kill_sends_only_the_rest(
    server: Server, tmp_path: Path, hold_at: int, when: When
) -> None:
    images, cache = some_images(tmp_path / "images", range(12)), str(tmp_path / "cache")
    name = f"killed {when} {hold_at}"
    arguments = ["upload", str(images), "--batch", "4", "--name", name, "--json"]
    with proxy(server.port, hold_at, when) as between:
        command = [*SIFTLINE, *arguments, "--url", between.url]
        environment = clean_environment(XDG_CACHE_HOME=cache)
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            assert between.held.wait(PATIENCE_S)
            process.kill()
        between.sent = b""
        again = run(*arguments, "--url", between.url, XDG_CACHE_HOME=cache)
        files_sent = between.sent.count(b"filename=")
    assert again.returncode == 0, again.stderr
    assert "Going on with the upload that was cut short" in again.stderr
    assert f"{12 - files_sent} there already" in again.stderr or files_sent == 12
    with Client(server.url) as client:
        [dataset] = [found for found in client.datasets() if found.name == name]
        receipts = list(client.receipts(dataset.id))
        jobs = list(client.jobs(dataset.id))
    assert [receipt.status for receipt in receipts] == ["accepted"] * 12
    assert files_sent == {1: 12, 2: 8, 4: 0}[hold_at]
    assert len(jobs) == 1
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_an_upload_whose_dataset_was_deleted_begins_anew(server: Server, tmp_path: Path) -> None:
    images, memo = some_images(tmp_path / "images", range(2)), tmp_path / "memo"
    options = DatasetOptions(purify=False)
    with Client(server.url) as client:
        gone = client.upload("n", [images], options).dataset.id
        memo.write_text(f'{{"key": "{gone}", "dataset_id": "{gone}"}}')
        client.delete_dataset(gone)
        created = client.upload("n", [images], options, memo=memo)
    assert (created.dataset.id != gone, created.dataset.images) == (True, 2)
    assert not memo.exists()


def test_many_batches_make_one_dataset_and_one_purification(server: Server, tmp_path: Path) -> None:
    images, seen = some_images(tmp_path / "images", range(5)), []
    with Client(server.url) as client:
        created = client.upload("n", [images], on_progress=lambda *so_far: seen.append(so_far), batch_files=2)
        assert [job.id for job in client.jobs(created.dataset.id)] == [created.job and created.job.id]
    assert created.dataset.options.purify
    assert [receipt.name for receipt in created.receipts] == [f"{seed}.png" for seed in range(5)]
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


def test_what_a_dataset_has_is_not_sent_again(server: Server, tmp_path: Path) -> None:
    images = some_images(tmp_path / "images", range(3))
    (images / "notes.txt").write_text("no image")
    with Client(server.url) as client, proxy(server.port, 0, "before") as between:
        dataset = client.upload("n", [images], DatasetOptions(purify=False)).dataset
        some_images(images, range(5))
        with Client(between.url) as watched:
            added = watched.add(dataset.id, [images], batch_files=1)
    assert [receipt.status for receipt in added.receipts] == [
        *["duplicate"] * 3,
        "accepted",
        "accepted",
        "rejected",
    ]
    assert between.sent.count(b"filename=") == 3


def test_a_folder_without_a_file_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    answer = run("upload", tmp_path, "--url", "http://127.0.0.1:9")
    assert answer.returncode == 2
    assert "There is no file in" in answer.stderr
