"""The API as users run it: a process that listens."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from siftline.settings import Settings
from siftline.store import migrate
from tests.conftest import PATIENCE_S

SERVE = """
import socket, sys, uvicorn
from siftline.main import create_app
from siftline.settings import Settings
server = uvicorn.Server(uvicorn.Config(create_app(Settings()), log_level="warning"))
server.run([socket.socket(fileno=int(sys.argv[1]))])
"""


class Server:
    """The API in a process of its own, on SQLite."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = Settings(data_dir=folder, **changes)
        self.changes = {f"SIFTLINE_{name.upper()}": str(value) for name, value in changes.items()}
        migrate.upgrade(self.settings)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(listener.getsockname()[1])
        # Open until this process ends: nobody else can take the port, be it before a start or between two.
        self._door = listener.detach()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        env = os.environ | {"SIFTLINE_DATA_DIR": str(self.settings.data_dir)} | self.changes
        program = [sys.executable, "-c", SERVE, str(self._door)]
        self.process = subprocess.Popen(program, env=env, pass_fds=[self._door])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                assert httpx2.get(f"{self.url}/healthz").status_code == 200
            except httpx2.TransportError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.kill()
                    raise AssertionError("the server did not come up") from None
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def datasets(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("/datasets").json()["items"]
        return items

    def get(self, path: str) -> httpx2.Response:
        return httpx2.get(self.url + path, timeout=PATIENCE_S)

    def post(self, path: str, content: Any, headers: dict[str, str]) -> httpx2.Response:
        return httpx2.post(self.url + path, content=content, headers=headers, timeout=PATIENCE_S)
