"""Keeps one worker process running beside the API."""

import os
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import Self

from siftline.cli.output import say
from siftline.settings import Settings

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
STEADY_AFTER_S = 60.0


def worker_command(settings: Settings) -> list[str]:
    """The worker's program: Celery's when there is a broker, else the one that polls the job table."""
    if settings.redis_url is None:
        return [sys.executable, "-m", "siftline_workers.poller"]
    return [
        *(sys.executable, "-m", "celery", "--app", "siftline_workers.celery_app", "worker"),
        # A supervisor with one child process per job: a thread answers pings while a job runs.
        *("--pool", "threads", "--concurrency", "1", "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ]


def worker_environment(settings: Settings) -> dict[str, str]:
    """The worker reads its settings from the environment: hand on what the command line changed."""
    return os.environ | {"SIFTLINE_DATA_DIR": str(settings.data_dir.resolve())}


class Supervisor:
    """A worker for the time of a `with`: started again, ever later, when it dies; stopped at the end."""

    def __init__(self, settings: Settings) -> None:
        # With `--parent` the worker goes, too, when this process is killed outright.
        tether = ["--parent", str(os.getpid())] if settings.redis_url is None else []
        self._command = worker_command(settings) + tether
        self._environment = worker_environment(settings)
        self._patience_s = settings.cancel_grace_s + 10.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_running, name="worker-supervisor")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()

    def _keep_running(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                told = f"The worker ended with code {self._run_once()}"
            except OSError as error:  # no memory for another process, perhaps only now
                told = f"The worker could not be started: {error.strerror}"
            if self._stopping.is_set():
                return
            if time.monotonic() - began > STEADY_AFTER_S:
                pause_s = FIRST_PAUSE_S
            say(f"{told}; starting it again in {pause_s:g} s")
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _run_once(self) -> int:
        # Its own session: Ctrl-C in a terminal reaches only this process, which then stops the worker.
        worker = subprocess.Popen(self._command, env=self._environment, start_new_session=True)  # noqa: S603 - our own worker
        while not self._stopping.wait(0.2):
            code = worker.poll()
            if code is not None:
                return code
        worker.terminate()
        try:
            return worker.wait(self._patience_s)
        except subprocess.TimeoutExpired:
            worker.kill()
            return worker.wait()
