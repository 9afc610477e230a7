"""Production's bell: one Celery task. Whoever hears it works at its lanes until nothing is waiting there."""

import logging
import threading
from contextlib import ExitStack
from typing import Any

from celery import Celery, signals
from kombu.entity import Queue

from siftline.dispatch import TASK, make_bell, make_celery, queue_of
from siftline.logs import set_up_logging
from siftline.settings import Settings
from siftline.store.session import DATABASE_AWAY, KEPT_BY_WORKERS, make_engine, session_factory
from siftline_workers.heartbeat import beating
from siftline_workers.helping import help_next
from siftline_workers.lifecycle import CHILD, Supervisor, new_worker_id
from siftline_workers.outage import PAUSE_S, Outage
from siftline_workers.tending import tending

log = logging.getLogger(__name__)

# A delivery that nobody acknowledged comes back after this. A job that still runs refuses it, so this may be
# shorter than a job; the sweeper repairs sooner anyway.
REDELIVER_AFTER_S = 600
TRANSPORT = {
    "visibility_timeout": REDELIVER_AFTER_S,
    # Celery's defaults look for such deliveries only every 100 s or so.
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
    # For ever is the default: a broker that is silent would hold the loop that also has to end on SIGTERM.
    # Four attempts of the command in hand and two of closing fit into the half minute that containers have.
    "socket_timeout": 3.0,
    "socket_connect_timeout": 3.0,
}


def make_worker_app(settings: Settings, child: tuple[str, ...] = CHILD) -> Celery:
    """A Celery application that runs our jobs; start it with `--pool=threads -c 1`, one per GPU."""
    if settings.redis_url is None:
        raise ValueError("SIFTLINE_REDIS_URL is not set: a Celery worker needs a broker")
    app = make_celery(settings.redis_url, **TRANSPORT)
    app.conf.update(
        task_queues=[Queue(queue_of(lane)) for lane in settings.lanes],  # type: ignore[no-untyped-call]  # kombu has no types
        worker_pool="threads",  # a worker supervises: the work is in a process of its own per job
        worker_concurrency=1,
        task_acks_late=True,
        worker_prefetch_multiplier=1,  # waiting jobs stay where any worker can take them
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the job table guards against doubles
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    sessions = session_factory(make_engine(settings.sqlalchemy_url, kept=KEPT_BY_WORKERS))
    supervisor = Supervisor(settings, sessions, new_worker_id(), make_bell(settings), child)
    stop = threading.Event()

    def look(_job_id: str) -> None:
        # Not only the job it was rung for: that one's turn may come later, or it may be in other hands.
        lanes, outage = settings.lanes, Outage(settings)
        while not stop.is_set():
            try:
                worked = supervisor.run_next(lanes, stop) or help_next(supervisor, lanes, stop)
                outage.is_over()
                if not worked:
                    return
            except DATABASE_AWAY as error:  # not to be given up: nobody would ring for that job again soon
                outage.goes_on(error)
                stop.wait(PAUSE_S)

    app.task(look, name=TASK)
    _follow_the_worker(supervisor, stop)
    return app


def _follow_the_worker(supervisor: Supervisor, stop: threading.Event) -> None:
    """Log, beat, tend the caches while the worker is up; on its warm shutdown give the job back at once."""
    life = ExitStack()

    def ready(**_: Any) -> None:
        life.enter_context(beating(supervisor))
        life.enter_context(tending(supervisor))

    def shutting_down(**_: Any) -> None:
        stop.set()

    def shut_down(**_: Any) -> None:
        life.close()

    def log_our_way(**_: Any) -> None:
        set_up_logging(supervisor.settings.log_format, supervisor.settings.log_level)

    signals.setup_logging.connect(log_our_way, weak=False)
    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
