"""Steps that job tests share: a dataset to hang jobs on, and a job brought to any state by legal moves."""

from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker
from uuid_utils.compat import uuid7

from siftline.domain.errors import SiftlineError
from siftline.domain.jobs import JobKind, JobState
from siftline.store import jobs
from siftline.store.jobs import Claim
from siftline.store.models import Dataset, Job
from siftline.store.session import now, reading, transaction

LEASE_S = 60.0
A_PROBLEM = SiftlineError("for a test")


def add_dataset(sessions: sessionmaker[Session]) -> UUID:
    with transaction(sessions) as session:
        dataset = Dataset(id=uuid7(), name="d", created_at=now(session), options={})
        session.add(dataset)
    return dataset.id


def add_job(
    sessions: sessionmaker[Session],
    dataset_id: UUID | None = None,
    kind: JobKind = JobKind.PURIFY,
    **params: object,
) -> UUID:
    dataset_id = dataset_id or add_dataset(sessions)
    with transaction(sessions) as session:
        return jobs.create(session, dataset_id, kind, params).id


def claim(
    sessions: sessionmaker[Session], job_id: UUID, owner: str = "me", lease_s: float = LEASE_S
) -> Claim:
    with transaction(sessions) as session:
        job = jobs.claim(session, job_id, owner, lease_s)
    assert job is not None
    return Claim(job_id, owner, job.attempt)


def read(sessions: sessionmaker[Session], job_id: UUID) -> Job:
    with reading(sessions) as session:
        return jobs.get(session, job_id)


def states(sessions: sessionmaker[Session], job_id: UUID) -> list[str]:
    """Every state the job was in, oldest first."""
    with reading(sessions) as session:
        return [move.state for move in jobs.history(session, job_id)]


def bring_to(sessions: sessionmaker[Session], state: JobState) -> Claim:
    """A job in this state, and the claim under which it was run (or would be)."""
    job_id = add_job(sessions)
    if state == JobState.QUEUED:
        return Claim(job_id, "me", 0)
    held = claim(sessions, job_id)
    with transaction(sessions) as session:
        if state in (JobState.CANCELLING, JobState.CANCELLED):
            jobs.request_cancel(session, job_id)
        if state == JobState.CANCELLED:
            jobs.cancelled(session, held, "stopped")
        if state == JobState.SUCCEEDED:
            jobs.succeed(session, held, {})
        if state == JobState.FAILED:
            jobs.fail(session, held, A_PROBLEM)
    return held
