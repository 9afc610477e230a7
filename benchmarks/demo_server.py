"""`siftline serve` for the time of a `with`: free port, own data folder, nobody else's settings."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_PATIENCE_S = 60.0


@contextmanager
def serving(out: Path, **settings: str) -> Iterator[str]:
    """`siftline serve` on a free port and a fresh data folder for the time of a `with`: its address.

    `settings` are environment variables.
    """
    log = out / "server.log"
    command = [sys.executable, "-m", "siftline", "serve", "--port", "0", "--data-dir", str(out / "data")]
    with log.open("wb") as sink:
        # Its own session: Ctrl-C reaches this program, which then stops the server in order.
        server = subprocess.Popen(
            command, stdout=sink, stderr=sink, start_new_session=True, env=environment() | settings
        )
    try:
        yield address_in(log, server)
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def environment() -> dict[str, str]:
    """Ours without SIFTLINE_*: the demo shows the defaults, and never touches a database that is in use."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIFTLINE_")}


def address_in(log: Path, server: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_PATIENCE_S
    while time.monotonic() < deadline and server.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found:
            return found.group()
        time.sleep(0.1)
    raise SystemExit(f"The server did not start. Its log, {log}:\n{log.read_text()}")
