"""Told to stop, the service answers what it has in hand, within limits, and leaves nothing half done."""

import http.client
import signal
import time
from pathlib import Path
from urllib.parse import urlsplit

from siftline import Client
from tests.conftest import PATIENCE_S
from tests.integration.api.conftest import png
from tests.integration.served import Served, serve

BOUNDARY = "edge"
BODY = (
    (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="name"\r\n\r\nline 4\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    ).encode()
    + png(1)
    + f"\r\n--{BOUNDARY}--\r\n".encode()
)


def half_an_upload(served: Served) -> http.client.HTTPConnection:
    address = urlsplit(served.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=PATIENCE_S)
    connection.putrequest("POST", "/datasets?purify=false")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(BODY)))
    connection.endheaders(BODY[:100])
    deadline = time.monotonic() + PATIENCE_S
    while not list((served.log.parent / "data" / "spool").glob("*/*")):  # it has begun to read
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return connection


def test_an_upload_in_hand_is_finished_and_one_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    with serve(tmp_path / "data", SIFTLINE_DRAIN_S="60") as served:
        upload = half_an_upload(served)
        served.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert served.process.poll() is None
        upload.send(BODY[100:])
        answer = upload.getresponse()
        assert answer.status == 202, answer.read()
        assert answer.headers["X-Request-ID"]
        assert served.process.wait(PATIENCE_S) == 0

    with serve(tmp_path / "data", SIFTLINE_DRAIN_S="1", SIFTLINE_BODY_SILENCE_S="600") as served:
        with Client(served.url) as client:
            assert [dataset.images for dataset in client.datasets()] == [1]
        upload = half_an_upload(served)
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE_S) == 0
        upload.close()
    assert [path.name for path in (tmp_path / "data" / "spool").iterdir()] == ["guard"]
