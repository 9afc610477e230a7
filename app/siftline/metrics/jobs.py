"""What the database tells of jobs and workers."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import FINISHED, JobState, Lane
from siftline.store import census, workers
from siftline.store.session import now, reading

log = logging.getLogger(__name__)

UNFINISHED = frozenset(JobState) - FINISHED
FINISHED_KEPT_S = 60.0
"""They only ever grow, to millions, and counting them reads as many entries of an index."""


class JobTable(Collector):
    """Asks each time it is collected; a database that is away is a figure, too."""

    def __init__(
        self,
        registry: CollectorRegistry,
        sessions: sessionmaker[Session],
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sessions, self._lease_s, self._clock = sessions, lease_s, clock
        self._finished: tuple[float, Sequence[tuple[str, str, int]]] | None = None
        registry.register(self)

    def describe(self) -> list[Gauge]:
        return []  # registering must not ask the database, which may not be migrated yet

    def collect(self) -> Iterator[Gauge]:
        up = Gauge("siftline_database_up", "1 while the database answers.")
        try:
            with reading(self._sessions) as session:
                told = [
                    *self._jobs(session),
                    *_taken(session),
                    *_queues(session),
                    *_leases(session),
                    *self._workers(session),
                ]
        except SQLAlchemyError as error:
            log.warning("no figures of jobs: the database is away (%s)", type(error).__name__)
            up.add_metric([], 0)
            told = []
        else:
            up.add_metric([], 1)
        yield up
        yield from told

    def _jobs(self, session: Session) -> Iterator[Gauge]:
        at = self._clock()
        if self._finished is None or at - self._finished[0] > FINISHED_KEPT_S:
            self._finished = (at, census.jobs_by_state(session, FINISHED))
        states = Gauge("siftline_jobs", "Jobs there are.", labels=["kind", "state"])
        for kind, state, count in (*census.jobs_by_state(session, UNFINISHED), *self._finished[1]):
            states.add_metric([kind, state], count)
        yield states

    def _workers(self, session: Session) -> Iterator[Gauge]:
        there = Gauge("siftline_workers", "Workers heard of lately, by lane they serve.", labels=["lane"])
        for lane in Lane:
            there.add_metric([lane], len(workers.serving(session, lane, 2 * self._lease_s)))
        yield there


def _taken(session: Session) -> Iterator[Gauge]:
    stages = Gauge("siftline_jobs_running", "Jobs in a worker's hands.", labels=["kind", "stage"])
    for kind, stage, count in census.running_by_stage(session):
        stages.add_metric([kind, stage or "starting"], count)
    still = Gauge(
        "siftline_jobs_still_seconds", "Longest without progress of a running one.", labels=["kind"]
    )
    at = now(session)
    for kind, step in census.stillness(session):
        still.add_metric([kind], max(0.0, (at - step).total_seconds()))
    seconds = Gauge("siftline_job_seconds", "Of the newest job that succeeded.", labels=["kind"])
    memory = Gauge("siftline_job_peak_memory_bytes", "Of the newest job that succeeded.", labels=["kind"])
    for kind, usage in census.newest_usage(session).items():
        seconds.add_metric([kind], usage["seconds"])
        memory.add_metric([kind], usage["peak_memory_bytes"])
    yield from (stages, still, seconds, memory)


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
