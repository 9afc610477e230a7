"""The commands of docker-compose.yml, run as processes on a real PostgreSQL and a real Redis."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from siftline import Client, SiftlineError
from siftline.schemas import Health
from tests.conftest import PATIENCE_S, free_port
from tests.integration.served import SIFTLINE, clean_environment, siftline

KEY = "a key"


@contextmanager
def running(command: str, log: Path, environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*SIFTLINE, command], stdout=sink, stderr=sink, env=clean_environment(**environment)
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def ready(client: Client, timeout_s: float = PATIENCE_S) -> Health:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return client.ready()
        except SiftlineError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_the_parts_of_the_compose_file_find_each_other_and_stop_when_told(
    empty_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "SIFTLINE_DATABASE_URL": empty_database_url,
        "SIFTLINE_REDIS_URL": redis_url,
        "SIFTLINE_DATA_DIR": str(tmp_path / "data"),
        "SIFTLINE_API_KEY": KEY,
        "SIFTLINE_PORT": str(port),
    }
    migrated = siftline("migrate", **environment)
    assert migrated.returncode == 0, migrated.stderr
    parts = ("api", "worker", "sweeper")
    with ExitStack() as stack, Client(f"http://127.0.0.1:{port}", KEY, attempts=1) as client:
        started = {
            part: stack.enter_context(running(part, tmp_path / f"{part}.log", environment)) for part in parts
        }
        assert set(ready(client).checks.values()) == {"ok"}
        for part, process in started.items():
            process.terminate()
            assert process.wait(PATIENCE_S) == 0, (tmp_path / f"{part}.log").read_text()
