"""What the database tells of jobs and workers."""

import logging
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import Lane
from siftline.store import census, workers
from siftline.store.session import now, reading

log = logging.getLogger(__name__)


class JobTable(Collector):
    """Asks each time it is collected; a database that is away is a figure, too."""

    def __init__(self, registry: CollectorRegistry, sessions: sessionmaker[Session], lease_s: float) -> None:
        self._sessions, self._lease_s = sessions, lease_s
        registry.register(self)

    def describe(self) -> list[Gauge]:
        return []  # registering must not ask the database, which may not be migrated yet

    def collect(self) -> Iterator[Gauge]:
        up = Gauge("siftline_database_up", "1 while the database answers.")
        try:
            with reading(self._sessions) as session:
                told = [*_jobs(session), *_queues(session), *_leases(session), *self._workers(session)]
        except SQLAlchemyError as error:
            log.warning("no figures of jobs: the database is away (%s)", type(error).__name__)
            up.add_metric([], 0)
            told = []
        else:
            up.add_metric([], 1)
        yield up
        yield from told

    def _workers(self, session: Session) -> Iterator[Gauge]:
        there = Gauge("siftline_workers", "Workers heard of lately, by lane they serve.", labels=["lane"])
        for lane in Lane:
            there.add_metric([lane], len(workers.serving(session, lane, 2 * self._lease_s)))
        yield there


def _jobs(session: Session) -> Iterator[Gauge]:
    states = Gauge("siftline_jobs", "Jobs there are.", labels=["kind", "state"])
    for kind, state, count in census.jobs_by_state(session):
        states.add_metric([kind, state], count)
    stages = Gauge("siftline_jobs_running", "Jobs in a worker's hands.", labels=["kind", "stage"])
    for kind, stage, count in census.running_by_stage(session):
        stages.add_metric([kind, stage or "starting"], count)
    seconds = Gauge("siftline_job_seconds", "Of the newest job that succeeded.", labels=["kind"])
    memory = Gauge("siftline_job_peak_memory_bytes", "Of the newest job that succeeded.", labels=["kind"])
    for kind, usage in census.newest_usage(session).items():
        seconds.add_metric([kind], usage["seconds"])
        memory.add_metric([kind], usage["peak_memory_bytes"])
    yield from (states, stages, seconds, memory)


def _queues(session: Session) -> Iterator[Gauge]:
    waiting = Gauge("siftline_queue_jobs", "Jobs that wait for a worker.", labels=["lane"])
    age = Gauge("siftline_queue_oldest_seconds", "How long the oldest of them waits.", labels=["lane"])
    found = {lane: (count, oldest) for lane, count, oldest in census.queues(session)}
    at = now(session)
    for lane in Lane:
        count, oldest = found.get(lane, (0, None))
        waiting.add_metric([lane], count)
        age.add_metric([lane], 0.0 if oldest is None else max(0.0, (at - oldest).total_seconds()))
    yield from (waiting, age)


def _leases(session: Session) -> Iterator[Gauge]:
    held, expired = census.leases(session)
    yield Gauge("siftline_leases_held", "Jobs that a worker has in hand.", value=held)
    yield Gauge(
        "siftline_leases_expired", "Those whose worker fell silent and that nobody took back.", value=expired
    )
