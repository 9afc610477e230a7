"""One and two workers at one purification: `python -m benchmarks.scaling [--only CASE ...] [--minutes 8]`.

Real worker processes (`siftline_workers.poller`), each with a processor and one thread of its own, one data
folder and one SQLite file between them; the same pictures in a fresh folder for each run. Two cases: the
features of many images, and LLBNAD's students. Prints the seconds of what is shared and of all, and whether
the answers are the same to the last bit; one worker does what follows. A third, `turns`: a small purification
that is handed in while two workers are at a large one.

Ends after --minutes. Finished runs are kept in --out and not done again: then call it once more. Only a quiet
machine with two processors tells anything.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.demo_server import environment
from benchmarks.speed_set import add_images, new_dataset, pictures
from siftline.domain.jobs import JobKind, JobState
from siftline.settings import Settings
from siftline.store import jobs, migrate
from siftline.store.models import Image, Purification, PurifiedItem
from siftline.store.session import make_engine, reading, session_factory, transaction


@dataclass(frozen=True, slots=True)
class Case:
    """What two workers are to share."""

    images: int
    shard: int
    stage: str
    """The one that is shared."""
    options: dict[str, Any]


CASES = {
    "features": Case(600, 50, "extract", {}),
    "students": Case(160, 100, "llbnad", {"submodels": "student", "partitions": 2}),
}
SMALL = 24  # images of the job that is handed in late
TURNS = "turns"


@dataclass(frozen=True, slots=True)
class Run:
    """One purification: seconds of its stages, how often a worker began to help, a digest of its answer."""

    case: str
    workers: int
    seconds: dict[str, float]
    helped: int
    answer: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--only", nargs="+", default=[*CASES, TURNS], choices=[*CASES, TURNS])
    options.add_argument("--images", type=int, help="fewer, to try it out: the seconds say nothing then")
    options.add_argument("--minutes", type=float, default=8.0)
    options.add_argument("--pictures", type=Path, default=Path("out/speed-pictures"))
    options.add_argument("--out", type=Path, default=Path("out/scaling.jsonl"))
    given = options.parse_args()
    ends_at = time.monotonic() + 60 * given.minutes
    runs = kept(given.out)
    wanted = [(c, n) for c in given.only for n in ((2,) if c == TURNS else (1, 2))]
    for name, workers in wanted:
        if (name, workers) in runs:
            continue
        case = CASES["features" if name == TURNS else name]
        paths = pictures(given.pictures, (given.images or case.images) + SMALL)
        with bench(paths, workers, case) as desk:
            run = desk.turns(ends_at) if name == TURNS else desk.one(name, ends_at)
        runs[name, workers] = run
        with given.out.open("a") as file:
            file.write(json.dumps(asdict(run)) + "\n")
        print(run.case, f"{workers} workers:", run.seconds, f"helped {run.helped} times", flush=True)
    tell(runs)


def kept(path: Path) -> dict[tuple[str, int], Run]:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {(row["case"], row["workers"]): Run(**row) for row in rows}


def tell(runs: dict[tuple[str, int], Run]) -> None:
    for name, case in CASES.items():
        if (one := runs.get((name, 1))) is None or (two := runs.get((name, 2))) is None:
            continue
        same = "the same to the last bit" if one.answer == two.answer else "NOT THE SAME"
        print(f"\n{name}: one processor a worker; answers {same}")
        for stage in (case.stage, "all"):
            a, b = one.seconds[stage], two.seconds[stage]
            print(f"{stage:8} one worker {a:7.1f} s   two {b:7.1f} s   {a / b:.2f} times as fast")
    if (run := runs.get((TURNS, 2))) is not None:
        told = run.seconds
        print(
            f"\nturns: {SMALL} images handed in while two workers are at a large set: begun after "
            f"{told['small waited']:.1f} s, done after {told['small done']:.1f} s; the large one after "
            f"{told['large done']:.1f} s more"
        )


@dataclass(frozen=True, slots=True)
class Desk:
    """Workers that run, and what they are given to do."""

    settings: Settings
    sessions: sessionmaker[Session]
    paths: list[Path]
    case: Case
    workers: int
    logs: list[Path]

    def one(self, name: str, ends_at: float) -> Run:
        began = time.monotonic()
        dataset_id, job_id = self._asked(self.paths[:-SMALL], self.case.options)
        wait(self.sessions, job_id, ends_at)
        seconds, digest = answer(self.sessions, dataset_id)
        seconds["wall"] = round(time.monotonic() - began, 1)
        return Run(name, self.workers, seconds, self._helped(), digest)

    def turns(self, ends_at: float) -> Run:
        """Handed in when a helper is at work."""
        began = time.monotonic()
        _, large = self._asked(self.paths[:-SMALL], self.case.options)
        while self._helped() == 0:
            time.sleep(0.1)
            if time.monotonic() > ends_at or has_ended(self.sessions, large):
                raise SystemExit("Nobody helped with the large purification; take more images.")
        asked = time.monotonic()
        dataset_id, small = self._asked(self.paths[-SMALL:], {})
        while not has_begun(self.sessions, small):
            time.sleep(0.1)
        waited = time.monotonic() - asked
        wait(self.sessions, small, ends_at)
        done = time.monotonic()
        wait(self.sessions, large, ends_at)
        now = time.monotonic()
        told = {"small waited": waited, "small done": done - asked, "large done": now - done}
        told["wall"] = now - began
        digest = answer(self.sessions, dataset_id)[1]
        return Run(TURNS, 2, {k: round(v, 1) for k, v in told.items()}, self._helped(), digest)

    def _asked(self, paths: list[Path], options: dict[str, Any]) -> tuple[UUID, UUID]:
        dataset_id = new_dataset(self.sessions)
        add_images(self.sessions, self.settings, dataset_id, paths)
        with transaction(self.sessions) as session:
            params = {"backbone": "lite", "seed": 0} | options
            return dataset_id, jobs.create(session, dataset_id, JobKind.PURIFY, params).id

    def _helped(self) -> int:
        return sum(log.read_text().count("helping with") for log in self.logs)


@contextmanager
def bench(paths: list[Path], workers: int, case: Case) -> Iterator[Desk]:
    with tempfile.TemporaryDirectory(dir=paths[0].parent.parent) as folder:
        settings = Settings(data_dir=Path(folder), shard_images=min(case.shard, max(1, len(paths) // 4)))
        migrate.upgrade(settings)
        engine = make_engine(settings.sqlalchemy_url)
        try:
            with working(settings, workers) as logs:
                try:
                    yield Desk(settings, session_factory(engine), paths, case, workers, logs)
                except SystemExit:
                    for log in logs:
                        print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)
                    raise
        finally:
            engine.dispose()


@contextmanager
def working(settings: Settings, workers: int) -> Iterator[list[Path]]:
    """So many worker processes; yields where they log."""
    told = {"SIFTLINE_DATA_DIR": settings.data_dir, "SIFTLINE_SHARD_IMAGES": settings.shard_images}
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    variables = environment() | {name: str(value) for name, value in told.items()} | threads
    processors = sorted(psutil.Process().cpu_affinity())
    started, logs = [], [settings.data_dir / f"worker-{i}.log" for i in range(workers)]
    try:
        for i, log in enumerate(logs):
            with log.open("wb") as sink:
                # With us: a worker that this program could not stop would spoil the next measurement.
                command = [sys.executable, "-m", "siftline_workers.poller", "--parent", str(os.getpid())]
                worker = subprocess.Popen(command, env=variables, stdout=sink, stderr=sink)
            started.append(worker)
            psutil.Process(worker.pid).cpu_affinity([processors[i % len(processors)]])
        yield logs
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            try:
                worker.wait(30)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def wait(sessions: sessionmaker[Session], job_id: UUID, ends_at: float) -> None:
    while not has_ended(sessions, job_id):
        if time.monotonic() > ends_at:
            raise SystemExit("The purification took longer than --minutes allows: nothing of it is kept.")
        time.sleep(0.2)


def has_begun(sessions: sessionmaker[Session], job_id: UUID) -> bool:
    with reading(sessions) as session:
        return jobs.get(session, job_id).state != JobState.QUEUED


def has_ended(sessions: sessionmaker[Session], job_id: UUID) -> bool:
    with reading(sessions) as session:
        job = jobs.get(session, job_id)
    if job.finished_at is not None and job.state != JobState.SUCCEEDED:
        raise SystemExit(f"The purification ended as {job.state}: {job.error}")
    return job.finished_at is not None


def answer(sessions: sessionmaker[Session], dataset_id: UUID) -> tuple[dict[str, float], str]:
    """Seconds of the stages of the one version there is, and a digest of all that it says."""
    told = (PurifiedItem.rank, PurifiedItem.score, PurifiedItem.p_anomalous, PurifiedItem.verdict)
    query = select(Image.sha256, *told, PurifiedItem.heat).join(Image, Image.id == PurifiedItem.image_id)
    digest = hashlib.sha256()
    with reading(sessions) as session:
        version = session.scalars(select(Purification).where(Purification.dataset_id == dataset_id)).one()
        for row in session.execute(query.where(Image.dataset_id == dataset_id).order_by(PurifiedItem.rank)):
            digest.update(repr(tuple(row)).encode())
    seconds = {name: float(value) for name, value in version.stage_seconds.items()}
    return seconds | {"all": round(sum(seconds.values()), 1)}, digest.hexdigest()


if __name__ == "__main__":
    main()
