"""Whose turn it is among the jobs that wait."""

from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.jobs import LANES, Estimate, JobKind, Lane
from siftline.store import jobs
from siftline.store.session import reading, transaction
from tests.integration.job_steps import add_dataset, claim


def test_every_kind_of_job_has_a_lane() -> None:
    assert set(LANES) == set(JobKind)


def test_a_short_job_passes_a_long_one_but_not_for_ever(sessions: sessionmaker[Session]) -> None:
    dataset_id = add_dataset(sessions)

    def add(seconds: float, asked_ago_s: float) -> UUID:
        estimate = Estimate("p", units=1, seconds=seconds, memory_bytes=1, disk_bytes=1, basis="a test")
        with transaction(sessions) as session:
            job = jobs.create(session, dataset_id, JobKind.PURIFY, {}, estimate=estimate)
            assert job.due_at is not None
            job.due_at -= timedelta(seconds=asked_ago_s)
            return job.id

    long = add(seconds=3600, asked_ago_s=3000)
    passes, comes_too_late = add(seconds=60, asked_ago_s=0), add(seconds=900, asked_ago_s=0)
    turns = []
    for _ in range(3):
        with reading(sessions) as session:
            job_id = jobs.next_queued(session, [Lane.HEAVY])
            assert jobs.next_queued(session, [Lane.LIGHT]) is None
        assert job_id is not None
        claim(sessions, job_id)
        turns.append(job_id)
    assert turns == [passes, long, comes_too_late]
