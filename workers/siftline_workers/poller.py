"""The embedded mode's worker: looks at the job table, runs what it finds, sweeps on the side.

`python -m siftline_workers.poller [--parent PID]`: with a parent it stops when that process does.
"""

import argparse
import logging
import signal
import threading

from siftline import sweeper
from siftline.dispatch import silent
from siftline.logs import set_up_logging
from siftline.settings import Settings
from siftline.store import jobs
from siftline.store.session import DATABASE_AWAY, make_engine, reading, session_factory
from siftline_workers.heartbeat import beating
from siftline_workers.lifecycle import CHILD, Supervisor, new_worker_id
from siftline_workers.parent import die_with

log = logging.getLogger(__name__)


def run_forever(settings: Settings, stop: threading.Event, child: tuple[str, ...] = CHILD) -> None:
    """Run queued jobs, oldest first, until `stop` is set; the one in hand goes back to the queue then."""
    engine = make_engine(settings.sqlalchemy_url)
    sessions = session_factory(engine)
    supervisor = Supervisor(settings, sessions, new_worker_id(), silent, child)
    sweeps = threading.Thread(target=sweeper.run_forever, args=(settings, stop), daemon=True)
    sweeps.start()
    log.info("worker %s is looking for jobs", supervisor.worker_id)
    try:
        with beating(sessions, supervisor.worker_id, settings.lease_s / 3):
            while not stop.is_set():
                if not _run_one(supervisor, stop):
                    stop.wait(settings.poll_s)
    finally:
        stop.set()
        sweeps.join()
        engine.dispose()


def _run_one(supervisor: Supervisor, stop: threading.Event) -> bool:
    """Whether there was a job; errors are logged, because a worker outlives what its jobs meet."""
    try:
        # Reading first: an idle worker must not take SQLite's write lock three times a second.
        with reading(supervisor.sessions) as session:
            job_id = jobs.oldest_queued(session)
        return job_id is not None and supervisor.run(job_id, stop)
    except DATABASE_AWAY as error:
        log.warning("the database is away (%s)", type(error.orig).__name__)
    except Exception:
        log.exception("running a job failed; the sweeper will find it")
    return False


def main(child: tuple[str, ...] = CHILD) -> None:
    arguments = argparse.ArgumentParser(prog="python -m siftline_workers.poller", description=__doc__)
    arguments.add_argument("--parent", type=int, help="process id of the program that started this one")
    parent = arguments.parse_args().parent
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if parent is not None:
        die_with(parent, signal.SIGTERM)
    set_up_logging()
    run_forever(Settings(), stop, child)


if __name__ == "__main__":
    main()
