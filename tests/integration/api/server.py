"""The API as users run it: a process that listens."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2

from siftline.settings import Settings
from siftline.store import migrate
from tests.conftest import free_port

SERVE = """
import sys, uvicorn
from siftline.main import create_app
from siftline.settings import Settings
uvicorn.run(create_app(Settings()), port=int(sys.argv[1]), log_level="warning")
"""


class Server:
    """The API in a process of its own, on SQLite."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.settings = Settings(data_dir=folder, **changes)
        self.changes = {f"SIFTLINE_{name.upper()}": str(value) for name, value in changes.items()}
        migrate.upgrade(self.settings)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        env = os.environ | {"SIFTLINE_DATA_DIR": str(self.settings.data_dir)} | self.changes
        self.process = subprocess.Popen([sys.executable, "-c", SERVE, str(self.port)], env=env)
        deadline = time.monotonic() + 90  # on a busy machine
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
        items: list[dict[str, Any]] = httpx2.get(f"{self.url}/datasets").json()["items"]
        return items
