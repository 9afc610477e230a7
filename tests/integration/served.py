"""The real command line in real processes, for tests."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.conftest import PATIENCE_S

SIFTLINE = [sys.executable, "-m", "siftline"]


def clean_environment(**extra: str) -> dict[str, str]:
    """Ours without SIFTLINE_*, so that nobody's settings reach a test; rich shall not wrap what we read."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SIFTLINE_")}
    # Not standing back: the tests beside this one would starve its jobs.
    return ours | {"COLUMNS": "400", "SIFTLINE_WORKER_NICE": "0"} | extra


def siftline(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*SIFTLINE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE_S,
        env=clean_environment(**environment),
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Served:
    """A running `siftline serve`."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def workers(self) -> list[psutil.Process]:
        return [child for child in psutil.Process(self.process.pid).children() if _is_worker(child)]

    def worker(self, other_than: int | None = None, timeout_s: float = PATIENCE_S) -> psutil.Process:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for worker in self.workers():
                if worker.pid != other_than:
                    return worker
            time.sleep(0.05)
        raise AssertionError(f"no worker came up:\n{self.log.read_text()}")


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "siftline_workers.poller" in process.cmdline()
    except psutil.Error:  # gone between two looks
        return False


@contextmanager
def serve(data_dir: Path, *arguments: object, **environment: str) -> Iterator[Served]:
    """`siftline serve` on a free port, killed at the end if a test did not stop it."""
    log = data_dir.with_name(data_dir.name + ".log")
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*SIFTLINE, "serve", "--port", "0", "--data-dir", str(data_dir), *map(str, arguments)],
            stdout=sink,
            stderr=sink,
            env=clean_environment(**environment),
        )
    try:
        yield Served(_address(log, process), process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(log: Path, process: "subprocess.Popen[bytes]", timeout_s: float = PATIENCE_S) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        if address := re.search(r"Siftline is at (http://127\.0\.0\.1:\d+) ", log.read_text()):
            return address[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def is_gone(process: psutil.Process, timeout_s: float = PATIENCE_S) -> bool:
    gone, _ = psutil.wait_procs([process], timeout=timeout_s)
    return bool(gone) or not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def some_images(folder: Path, seeds: range) -> Path:
    """A folder of small pictures of noise, one per seed."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder
