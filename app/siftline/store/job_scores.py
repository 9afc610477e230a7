"""The files of a scoring job, in the order they came: waiting, scored, or rejected with a reason."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, func, insert, select, update
from sqlalchemy.orm import Session

from siftline.domain.jobs import JobState
from siftline.store.models import Job, JobScore

ROWS_PER_INSERT = 1000
WAITING: ColumnElement[bool] = JobScore.score.is_(None) & JobScore.reason.is_(None)


def add_all(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    rest = iter(rows)
    while chunk := list(islice(rest, ROWS_PER_INSERT)):
        session.execute(insert(JobScore), chunk)


def waiting(session: Session, job_id: UUID, *, limit: int) -> Sequence[JobScore]:
    """The next files that nobody has looked at yet."""
    query = select(JobScore).where(JobScore.job_id == job_id, WAITING)
    return session.scalars(query.order_by(JobScore.number).limit(limit)).all()


def write(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """What was found; each row names its job and number."""
    session.execute(update(JobScore), rows)


def counts(session: Session, job_id: UUID) -> dict[str, int]:
    """Number of files by verdict; the rejected and the waiting ones under these names."""
    rows = session.execute(
        select(JobScore.verdict, WAITING, func.count())
        .where(JobScore.job_id == job_id)
        .group_by(JobScore.verdict, WAITING)
    )
    return {verdict or ("waiting" if waits else "rejected"): count for verdict, waits, count in rows}


def page(session: Session, job_id: UUID, *, after: int, limit: int) -> Sequence[JobScore]:
    """In the order the files came; numbers begin at 1."""
    query = select(JobScore).where(JobScore.job_id == job_id, JobScore.number > after)
    return session.scalars(query.order_by(JobScore.number).limit(limit)).all()


def job_states(session: Session, job_ids: Iterable[UUID]) -> dict[UUID, JobState]:
    """The states of those jobs that exist."""
    rows = session.execute(select(Job.id, Job.state).where(Job.id.in_(list(job_ids))))
    return {job_id: JobState(state) for job_id, state in rows}
