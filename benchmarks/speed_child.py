"""One measured piece of work in a process of its own; its figures go to standard output as JSON.

python -m benchmarks.speed_child purify DATA_DIR JOB_ID
python -m benchmarks.speed_child bare DATA_DIR
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, process_time, time
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from psutil import Process

from siftline.imaging import ImageLimits, decode_rgb
from siftline.imaging.tiles import to_tiles
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.jobs import Claim
from siftline.store.session import make_engine, session_factory, transaction
from siftline_workers.pipeline import purify
from siftline_workers.pipeline.dataset_images import named_backbone
from siftline_workers.running import RunningJob

Figures = dict[str, dict[str, float]]
"""Of each stage: seconds of wall clock, seconds of processor time of all threads, peak memory in MiB."""

_TURN = 32  # tiles the bare pass gives the network at once


class Meter:
    """Told of the stages as they come by the job's own reports."""

    def __init__(self) -> None:
        self.figures: Figures = {}
        self._stage = ""
        self._begin("start")  # which began with the process: its imports count
        self._wall -= time() - Process().create_time()
        self._cpu = 0.0

    def report(self, stage: str, _progress: float) -> None:
        if stage != self._stage:
            self.end()
            self._begin(stage)

    def end(self) -> None:
        self.figures[self._stage] = {
            "wall": perf_counter() - self._wall,
            "cpu": process_time() - self._cpu,
            "peak_mib": _status_mib("VmHWM"),
            "anonymous_mib": _status_mib("RssAnon"),
        }

    def _begin(self, stage: str) -> None:
        self._stage, self._wall, self._cpu = stage, perf_counter(), process_time()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew


def _status_mib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def purified(settings: Settings, job_id: UUID) -> Figures:
    """The job as a worker runs it, but for the niceness."""
    sessions = session_factory(make_engine(settings.sqlalchemy_url))
    with transaction(sessions) as session:
        row = jobs.claim(session, job_id, "benchmark", lease_s=1e6)
        if row is None:
            raise ValueError("the job is not waiting")
        job = RunningJob(row, Claim(job_id, "benchmark", row.attempt), settings, sessions, threading.Event())
    meter = Meter()
    write = job.report

    def report(stage: str, progress: float) -> None:
        meter.report(stage, progress)
        write(stage, progress)

    job.report = report  # type: ignore[method-assign]  # to be told each stage
    purify.run(job)
    meter.end()
    return meter.figures


def bare_pass(settings: Settings) -> Figures:
    """Nothing but decoding and the network over all stored pictures; what it gives is thrown away."""
    backbone = named_backbone("lite", settings)
    meter = Meter()
    meter.report("pass", 0.0)
    for tiles in _turns(sorted(path for path in settings.blobs_dir.rglob("*") if path.is_file())):
        backbone.engine(tiles)
    meter.end()
    return meter.figures


def _turns(paths: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Tiles of all pictures, decoded ahead on as many threads as in `extract`."""
    limits = ImageLimits()

    def decoded(path: Path) -> NDArray[np.uint8]:
        return to_tiles(decode_rgb(path.read_bytes(), limits), 256)

    with ThreadPoolExecutor(2) as pool:
        waiting: deque[Future[NDArray[np.uint8]]] = deque()
        for path in paths:
            waiting.append(pool.submit(decoded, path))
            if len(waiting) >= 2 * _TURN:
                yield np.concatenate([waiting.popleft().result() for _ in range(_TURN)])
        if waiting:
            yield np.concatenate([future.result() for future in waiting])


def main() -> None:
    kind, data_dir, *rest = sys.argv[1:]
    settings = Settings(data_dir=Path(data_dir))
    answer: dict[str, Any] = purified(settings, UUID(rest[0])) if kind == "purify" else bare_pass(settings)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
