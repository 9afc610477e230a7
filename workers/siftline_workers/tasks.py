"""Production's bell: Celery tasks. A task takes a job's id and runs it, if it is still to be had."""

import threading
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from celery import Celery, signals

from siftline.dispatch import TASKS, make_bell, make_celery
from siftline.settings import Settings
from siftline.store.session import make_engine, session_factory
from siftline_workers.heartbeat import beating
from siftline_workers.lifecycle import CHILD, Supervisor, new_worker_id

# A delivery that nobody acknowledged comes back after this. A job that still runs refuses it, so this may be
# shorter than a job; the sweeper repairs sooner anyway.
REDELIVER_AFTER_S = 600
TRANSPORT = {
    "visibility_timeout": REDELIVER_AFTER_S,
    # Celery's defaults look for such deliveries only every 100 s or so.
    "unacked_restore_interval": 10,
    "unacked_restore_throttle": 1,
}


def make_worker_app(settings: Settings, child: tuple[str, ...] = CHILD) -> Celery:
    """A Celery application that runs our jobs; start it with `--pool=threads -c 1`, one per GPU."""
    if settings.redis_url is None:
        raise ValueError("SIFTLINE_REDIS_URL is not set: a Celery worker needs a broker")
    app = make_celery(settings.redis_url, **TRANSPORT)
    app.conf.update(
        worker_pool="threads",  # a worker supervises: the work is in a process of its own per job
        worker_concurrency=1,
        task_acks_late=True,
        worker_prefetch_multiplier=1,  # waiting jobs stay where any worker can take them
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the job table guards against doubles
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
    )
    sessions = session_factory(make_engine(settings.sqlalchemy_url))
    supervisor = Supervisor(settings, sessions, new_worker_id(), make_bell(settings), child)
    stop = threading.Event()

    def run(job_id: str) -> None:
        supervisor.run(UUID(job_id), stop)

    for name in TASKS.values():
        app.task(run, name=name)

    _follow_the_worker(supervisor, stop)
    return app


def _follow_the_worker(supervisor: Supervisor, stop: threading.Event) -> None:
    """Beat while the worker is up; on its warm shutdown give the job back at once."""
    life = ExitStack()

    def ready(**_: Any) -> None:
        every_s = supervisor.settings.lease_s / 3
        life.enter_context(beating(supervisor.sessions, supervisor.worker_id, every_s))

    def shutting_down(**_: Any) -> None:
        stop.set()

    def shut_down(**_: Any) -> None:
        life.close()

    signals.worker_ready.connect(ready, weak=False)
    signals.worker_shutting_down.connect(shutting_down, weak=False)
    signals.worker_shutdown.connect(shut_down, weak=False)
