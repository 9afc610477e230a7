"""Start real programs, watch them, and leave none behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from siftline.settings import Settings
from tests.conftest import PATIENCE_S

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
Program = subprocess.Popen[bytes]

CELERY = (
    *("-m", "celery", "-A", "tests.acceptance.sleepy_celery", "worker", "--pool=threads", "-c", "1"),
    *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=INFO"),
)
POLLER = ("-m", "tests.acceptance.sleepy_poller")


class Programs:
    """The programs of one test; each logs to a file of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Program] = []

    def start(self, settings: Settings, *arguments: str) -> Program:
        given = settings.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        written = {
            name: json.dumps(value) if isinstance(value, list) else str(value)
            for name, value in given.items()
        }
        environment = os.environ | {f"SIFTLINE_{name.upper()}": value for name, value in written.items()}
        with (self.folder / f"program-{len(self.started)}.log").open("wb") as log:
            # A session each, as containers have: Linux may share processors between sessions first.
            program = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(program)
        return program

    def kill_all(self) -> None:
        for program in self.started:
            if program.poll() is None:
                program.kill()
            program.wait()

    def logs(self) -> str:
        return "\n".join(log.read_text() for log in sorted(self.folder.glob("program-*.log")))


def stop(
    program: Program, *, with_signal: signal.Signals = signal.SIGTERM, within_s: float = PATIENCE_S
) -> int:
    """Ask it to go; its exit code."""
    program.send_signal(with_signal)
    return program.wait(within_s)


def eventually(what: Callable[[], T], *, within_s: float = PATIENCE_S) -> T:
    """What `what` says once that is true; fails when it never is."""
    deadline = time.monotonic() + within_s
    while not (answer := what()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.03)
    return answer


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or before it was read
        return False
