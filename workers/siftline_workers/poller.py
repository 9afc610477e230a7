"""The embedded mode's worker: looks at the job table, runs what it finds, sweeps on the side.

`python -m siftline_workers.poller [--parent PID]`: with a parent it stops when that process does.
"""

import argparse
import logging
import signal
import threading
from collections.abc import Collection

from siftline import sweeper
from siftline.dispatch import silent
from siftline.domain.jobs import Lane
from siftline.logs import set_up_logging
from siftline.settings import Settings
from siftline.store.session import DATABASE_AWAY, KEPT_BY_WORKERS, make_engine, session_factory
from siftline_workers.heartbeat import beating
from siftline_workers.helping import help_next
from siftline_workers.lifecycle import CHILD, Supervisor, new_worker_id
from siftline_workers.outage import PAUSE_S, Outage
from siftline_workers.parent import die_with

log = logging.getLogger(__name__)


def run_forever(settings: Settings, stop: threading.Event, child: tuple[str, ...] = CHILD) -> None:
    """Run queued jobs by their turn until `stop` is set; those in hand go back to the queue then.

    One job at a time in each slot: short work has one of its own and never waits behind a training.
    """
    engine = make_engine(settings.sqlalchemy_url, kept=KEPT_BY_WORKERS)
    sessions = session_factory(engine)
    supervisor = Supervisor(settings, sessions, new_worker_id(), silent, child)
    works = [threading.Thread(target=_run_slot, args=(supervisor, lanes, stop)) for lanes in slots(settings)]
    sweeps = threading.Thread(target=sweeper.run_forever, args=(settings, stop), daemon=True)
    log.info("worker %s is looking for jobs of %s", supervisor.worker_id, ", ".join(settings.lanes))
    try:
        with beating(supervisor):
            for thread in (sweeps, *works):
                thread.start()
            stop.wait()
            for thread in works:
                thread.join()
    finally:
        stop.set()
        sweeps.join()
        engine.dispose()


def slots(settings: Settings) -> list[list[Lane]]:
    """Which lanes share a slot: all but the light one, because this machine has one set of processors."""
    heavy: list[Lane] = [lane for lane in settings.lanes if lane != Lane.LIGHT]
    light: list[Lane] = [lane for lane in settings.lanes if lane == Lane.LIGHT]
    return [lanes for lanes in (heavy, light) if lanes]


def _run_slot(supervisor: Supervisor, lanes: Collection[Lane], stop: threading.Event) -> None:
    # Errors are logged, because a worker outlives what its jobs meet.
    outage = Outage(supervisor.settings)
    while not stop.is_set():
        try:
            worked = supervisor.run_next(lanes, stop) or help_next(supervisor, lanes, stop)
            outage.is_over()
            if worked:
                continue
        except DATABASE_AWAY as error:
            outage.goes_on(error)
            stop.wait(PAUSE_S)
        except Exception:
            log.exception("running a job failed; the sweeper will find it")
        stop.wait(supervisor.settings.poll_s)


def main(child: tuple[str, ...] = CHILD) -> None:
    arguments = argparse.ArgumentParser(prog="python -m siftline_workers.poller", description=__doc__)
    arguments.add_argument("--parent", type=int, help="process id of the program that started this one")
    parent = arguments.parse_args().parent
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if parent is not None:
        die_with(parent, signal.SIGTERM)
    settings = Settings()
    set_up_logging(settings.log_format, settings.log_level)
    run_forever(settings, stop, child)


if __name__ == "__main__":
    main()
