"""What only a real server process can show: memory, cut connections, sudden death."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import encoded, png, spool_is_empty
from tests.integration.api.server import Server

BOUNDARY = "b"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
MIB = 1 << 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), max_request_bytes=400 * MIB)
    server.start()
    yield server
    server.kill()


def part(name: str, data: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n"


NAME = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\nbig\r\n'.encode()
END = f"--{BOUNDARY}--\r\n".encode()
HALF_A_REQUEST = (
    b"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
    + f"Content-Type: {HEADERS['Content-Type']}\r\n\r\n".encode()
    + NAME
    + part("a.png", bytes(2 * MIB))
)


def test_memory_stays_flat_during_a_large_upload(server: Server) -> None:
    """150 MiB in 50 images: a server that held the body would grow by it; a decoded image has 3 MiB."""
    pixels = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)

    def body() -> Iterator[bytes]:
        yield NAME
        for i in range(50):
            pixels[0, 0] = i
            yield part(f"{i}.bmp", encoded(Image.fromarray(pixels), "BMP"))
        yield END

    server.post("/datasets", NAME + part("a.png", png(1)) + END, HEADERS)
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    answer = server.post("/datasets", body(), HEADERS)
    assert answer.status_code == 202
    assert answer.json()["dataset"]["images"] == 50
    peak = int(Path(f"/proc/{process.pid}/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    assert peak - before < 64 * MIB
    assert spool_is_empty(server.settings)


def test_a_body_announced_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/datasets")
    connection.putheader("Content-Type", HEADERS["Content-Type"])
    connection.putheader("Content-Length", str(500 * MIB))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (413, "application/problem+json")
    connection.close()


def test_a_client_that_goes_away_leaves_nothing_behind(server: Server) -> None:
    before = server.datasets()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
        connection.sendall(
            f"{head}Content-Length: 5000000\r\n\r\n".encode() + NAME + part("a", bytes(2 * MIB))
        )
        wait_until(lambda: not spool_is_empty(server.settings))
    wait_until(lambda: spool_is_empty(server.settings))
    assert server.datasets() == before


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("impatient")
    server = Server(folder, body_silence_s=0.4, body_bytes_per_s=100_000)
    server.start()
    yield server
    server.kill()


def test_a_sender_who_falls_silent_is_answered_and_leaves_nothing(impatient: Server) -> None:
    with socket.create_connection(("127.0.0.1", impatient.port)) as connection:
        connection.sendall(HALF_A_REQUEST)
        said = everything_from(connection)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert b"request-timeout" in said
    assert spool_is_empty(impatient.settings)
    assert impatient.datasets() == []


def test_a_sender_who_never_stops_and_never_comes_to_an_end_is_answered_too(impatient: Server) -> None:
    head = b"POST /keys HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", impatient.port)) as connection:
        connection.sendall(head + b"Content-Length: 1000000\r\n\r\n")
        connection.setblocking(False)
        said = bytearray()

        def is_answered() -> bool:
            said.extend(trickled(connection))
            return b"request-timeout" in said

        wait_until(is_answered)


def trickled(connection: socket.socket) -> bytes:
    """One more byte sent, and what was said meanwhile."""
    with suppress(OSError):  # full, or closed already
        connection.send(b" ")
    try:
        return connection.recv(65_536)
    except BlockingIOError:
        return b""


def everything_from(connection: socket.socket) -> bytes:
    """Until the server closes."""
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_a_server_killed_during_an_upload_starts_clean_and_has_lost_nothing_it_answered(
    server: Server,
) -> None:
    before = server.datasets()
    whole = NAME + part("a.png", png(1)) + END
    first = server.post("/datasets", whole, HEADERS).json()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = f"POST /datasets HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {HEADERS['Content-Type']}\r\n"
        connection.sendall(
            f"{head}Content-Length: 5000000\r\n\r\n".encode() + NAME + part("b", bytes(2 * MIB))
        )
        wait_until(lambda: not spool_is_empty(server.settings))
        server.kill()
    assert not spool_is_empty(server.settings)
    server.start()
    assert spool_is_empty(server.settings)
    assert server.datasets()[1:] == before
    assert server.datasets()[0] == first["dataset"]
    images = server.get(f"/datasets/{first['dataset']['id']}/images").json()["items"]
    assert server.get(images[0]["content_url"]).content == png(1)


def wait_until(happened: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
