"""One purification on a data folder that is ours alone: intake, job row, child process, answer."""

import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.cli.folder import hold
from siftline.cli.output import intake_progress, job_progress, say, say_receipts
from siftline.cli.servers import settings_from
from siftline.client import FINISHED, JobFailed
from siftline.dispatch import silent
from siftline.domain.errors import Conflict
from siftline.schemas import DatasetCreated, DatasetOptions, Job, NewDataset, Purified
from siftline.services import datasets, ingest, jobs, purification, sources
from siftline.settings import Settings
from siftline.store.blobs_open import open_blobs
from siftline.store.migrate import upgrade
from siftline.store.selection import Filter
from siftline.store.session import make_engine, reading, session_factory, transaction
from siftline.store.spool import Spool

EVERYTHING = 2**31 - 1
LOOK_EVERY_S = 0.3


def purified_here(path: Path, options: DatasetOptions, data_dir: Path | None) -> Purified:
    """Purify what `path` names, in `data_dir` or in a folder that is gone afterwards.

    Raises Conflict when another process holds the folder or no file is an image, and JobFailed.
    """
    with _folder(data_dir) as folder:
        settings = _settings_of(folder)
        upgrade(settings)
        engine = make_engine(settings.sqlalchemy_url)
        try:
            sessions = session_factory(engine)
            created = _take_in(settings, sessions, path, options)
            say_receipts(created.receipts)
            if created.job is None:
                raise Conflict(f"There is no image to purify in {path}")
            _run(settings, sessions, created.job.id)
            with reading(sessions) as session:
                return purification.purified(
                    session,
                    created.dataset.id,
                    Filter(),
                    version=None,
                    order="rank",
                    after=None,
                    limit=EVERYTHING,
                )
        finally:
            engine.dispose()


@contextmanager
def _folder(data_dir: Path | None) -> Iterator[Path]:
    if data_dir is not None:
        with hold(data_dir):
            yield data_dir
    else:
        with tempfile.TemporaryDirectory(prefix="siftline-") as folder:
            yield Path(folder)


def _settings_of(folder: Path) -> Settings:
    """The environment's settings with everything in `folder`; who names a path here may read it."""
    elsewhere = dict.fromkeys(("database_url", "redis_url", "s3_bucket"))
    return settings_from(data_dir=folder).model_copy(update=elsewhere | {"source_roots": (Path("/"),)})


def _take_in(
    settings: Settings, sessions: sessionmaker[Session], path: Path, options: DatasetOptions
) -> DatasetCreated:
    dataset_id, spool = uuid7(), Spool(settings.spool_dir)
    spool.open()
    try:
        with spool.folder() as folder, ThreadPoolExecutor(os.cpu_count()) as decoders:
            sent = sources.copied(sources.files(path, settings), folder, settings)
            files = ingest.unpacked(sent, folder, settings)
            with intake_progress(len(files)) as look:
                examined = [look(file) for file in ingest.examined(files, decoders, settings)]
            ingest.store_bytes(open_blobs(settings), dataset_id, examined)
            with transaction(sessions) as session:
                new = NewDataset(name=path.name[:200] or "images", options=options)
                return datasets.create(session, dataset_id, new, examined, bell=silent, settings=settings)
    finally:
        spool.close()


def _run(settings: Settings, sessions: sessionmaker[Session], job_id: UUID) -> None:
    """Work at the job until it has ended. Ctrl-C gives it back, so that a kept folder stays in order."""
    from siftline_workers.lifecycle import Supervisor, new_worker_id

    def state() -> Job:
        with reading(sessions) as session:
            return jobs.get(session, job_id)

    stop, ended, log = threading.Event(), threading.Event(), settings.data_dir / "purify.log"
    with log.open("ab") as sink, job_progress() as show:
        supervisor = Supervisor(settings, sessions, new_worker_id(), silent, stderr=sink)

        def attempt() -> None:
            try:
                supervisor.run(job_id, stop)
            finally:
                ended.set()

        # An attempt that dies is taken up again, as a worker would; the job's own limit ends that.
        while (now := state()).state not in FINISHED:
            ended.clear()
            threading.Thread(target=attempt).start()
            try:
                # Not Thread.join: interrupted once, Python 3.11's takes the thread for ended ever after.
                while not ended.wait(LOOK_EVERY_S):
                    show(state())
            except BaseException:
                stop.set()
                while not ended.is_set():
                    with suppress(
                        KeyboardInterrupt
                    ):  # a second one: the folder goes when nobody writes to it
                        ended.wait()
                raise
    if now.state != "succeeded":
        say(f"The worker's log: {_kept(log)}")
        raise JobFailed(now)


def _kept(log: Path) -> Path:
    """A copy of the log that outlives a temporary folder."""
    number, path = tempfile.mkstemp(prefix="siftline-purify-", suffix=".log")
    with os.fdopen(number, "wb") as copy:
        copy.write(log.read_bytes())
    return Path(path)
