"""One and two workers at one purification: `python -m benchmarks.scaling [--images 1200] [--shard 100]`.

Real worker processes (`siftline_workers.poller`), each with a processor of its own, one data folder and one
SQLite file between them; the same pictures in a fresh folder for each run. Prints the seconds of the stages
and whether the answers are the same to the last bit. Workers share the extraction; one does what follows.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks.demo_server import environment
from benchmarks.speed_set import add_images, new_dataset, new_purification, pictures
from siftline.domain.jobs import JobState
from siftline.settings import Settings
from siftline.store import jobs, migrate
from siftline.store.models import Image, Purification, PurifiedItem
from siftline.store.session import make_engine, reading, session_factory


@dataclass(frozen=True, slots=True)
class Run:
    """One purification: seconds of its stages, how many parts others took, a digest of all it says."""

    seconds: dict[str, float]
    helped: int
    answer: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--images", type=int, default=1200)
    options.add_argument("--shard", type=int, default=100)
    options.add_argument("--rounds", type=int, default=2, help="of both, in turns")
    options.add_argument("--pictures", type=Path, default=Path("out/speed-pictures"))
    given = options.parse_args()
    paths = pictures(given.pictures, given.images)
    table: dict[int, list[Run]] = {1: [], 2: []}
    for _ in range(given.rounds):
        for workers, runs in table.items():
            runs.append(purified(paths, workers, given.shard))
            print(f"{workers} workers: {runs[-1].seconds}, others took {runs[-1].helped} parts", flush=True)
    same = len({run.answer for runs in table.values() for run in runs}) == 1
    print(f"\n{given.images} images, parts of {given.shard}; one processor a worker; best of {given.rounds}")
    for name in ("extract", "all"):
        one, two = (min(run.seconds[name] for run in table[workers]) for workers in (1, 2))
        print(f"{name:8} one worker {one:7.1f} s   two {two:7.1f} s   {one / two:.2f} times as fast")
    print(f"the answers are {'the same to the last bit' if same else 'NOT THE SAME'}")


def purified(paths: Sequence[Path], workers: int, shard: int) -> Run:
    with tempfile.TemporaryDirectory(dir=paths[0].parent.parent) as folder:
        settings = Settings(data_dir=Path(folder), shard_images=shard)
        migrate.upgrade(settings)
        engine = make_engine(settings.sqlalchemy_url)
        sessions = session_factory(engine)
        dataset_id = new_dataset(sessions)
        add_images(sessions, settings, dataset_id, list(paths))
        job_id = new_purification(sessions, dataset_id)
        with working(settings, workers) as logs:
            wait(sessions, job_id)
        found = answer(sessions, dataset_id, sum(log.read_text().count("helping with") for log in logs))
        engine.dispose()
        return found


@contextmanager
def working(settings: Settings, workers: int) -> Iterator[list[Path]]:
    """So many worker processes; yields where they log."""
    told = {"SIFTLINE_DATA_DIR": settings.data_dir, "SIFTLINE_SHARD_IMAGES": settings.shard_images}
    variables = environment() | {name: str(value) for name, value in told.items()}
    processors = sorted(psutil.Process().cpu_affinity())
    started, logs = [], [settings.data_dir / f"worker-{i}.log" for i in range(workers)]
    try:
        for i, log in enumerate(logs):
            with log.open("wb") as sink:
                command = [sys.executable, "-m", "siftline_workers.poller"]
                worker = subprocess.Popen(command, env=variables, stdout=sink, stderr=sink)
            psutil.Process(worker.pid).cpu_affinity([processors[i % len(processors)]])
            started.append(worker)
        yield logs
    finally:
        for worker in started:
            worker.terminate()
            worker.wait(60)


def wait(sessions: sessionmaker[Session], job_id: UUID) -> None:
    while True:
        with reading(sessions) as session:
            job = jobs.get(session, job_id)
        if job.state == JobState.SUCCEEDED:
            return
        if job.finished_at is not None:
            raise SystemExit(f"The purification ended as {job.state}: {job.error}")
        time.sleep(0.2)


def answer(sessions: sessionmaker[Session], dataset_id: UUID, helped: int) -> Run:
    told = (PurifiedItem.rank, PurifiedItem.score, PurifiedItem.p_anomalous, PurifiedItem.verdict)
    query = select(Image.sha256, *told, PurifiedItem.heat).join(Image, Image.id == PurifiedItem.image_id)
    digest = hashlib.sha256()
    with reading(sessions) as session:
        version = session.scalars(select(Purification).where(Purification.dataset_id == dataset_id)).one()
        for row in session.execute(query.order_by(PurifiedItem.rank)):
            digest.update(repr(tuple(row)).encode())
    seconds = {name: float(value) for name, value in version.stage_seconds.items()}
    return Run(seconds | {"all": round(sum(seconds.values()), 1)}, helped, digest.hexdigest())


if __name__ == "__main__":
    main()
