"""Parts of a running job that idle workers may do for it.

A part is an offer and never a promise: whoever takes one leaves its results under their content key, where
the job finds them when it comes to them, and does itself what is not there. So a helper may die, or be late,
on any line; nobody waits for it, and there is no lease to keep.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.orm import Session

from siftline.domain.jobs import FINISHED, JobState, Lane, Work
from siftline.store.models import Job, JobPart


@dataclass(frozen=True, slots=True)
class Part:
    """The pieces `start` to `stop` (without it) of a job's work.

    Of an extraction those are the dataset's images, in the order of their content.
    """

    job_id: UUID
    work: Work
    start: int
    stop: int

    @property
    def row(self) -> ColumnElement[bool]:
        return (JobPart.job_id == self.job_id) & (JobPart.work == self.work) & (JobPart.start == self.start)


def offer(session: Session, offered: Sequence[Part]) -> None:
    """Parts of one job. Those that an earlier attempt at it offered stay as they are."""
    known = select(JobPart.work, JobPart.start).where(JobPart.job_id.in_({p.job_id for p in offered}))
    taken = {(work, start) for work, start in session.execute(known)}
    session.add_all(
        JobPart(job_id=p.job_id, work=p.work, start=p.start, stop=p.stop)
        for p in offered
        if (p.work, p.start) not in taken
    )


def next_free(session: Session, lanes: Collection[Lane]) -> Part | None:
    """A running job's last part, since the job begins in front. Only `take` gives it."""
    return _last_free(session, Job.lane.in_(lanes))


def next_like(session: Session, part: Part) -> Part | None:
    """Another free one of the same work."""
    return _last_free(session, (JobPart.job_id == part.job_id) & (JobPart.work == part.work))


def _last_free(session: Session, such: ColumnElement[bool]) -> Part | None:
    free = (
        select(JobPart.job_id, JobPart.work, JobPart.start, JobPart.stop)
        .join(Job, Job.id == JobPart.job_id)
        .where(Job.state == JobState.RUNNING, JobPart.taken_by.is_(None), such)
        .order_by(Job.due_at, JobPart.start.desc())
        .limit(1)
    )
    found = session.execute(free).one_or_none()
    return None if found is None else Part(found.job_id, Work(found.work), found.start, found.stop)


def take(session: Session, part: Part, worker_id: str) -> bool:
    """False when another worker was faster, or the job has come past it."""
    query = update(JobPart).where(part.row, JobPart.taken_by.is_(None)).values(taken_by=worker_id)
    return session.scalar(query.returning(JobPart.start)) is not None


def is_wanted(session: Session, part: Part) -> bool:
    """Whether the job still runs and has not all it wanted."""
    found = exists().where(part.row, Job.id == JobPart.job_id, Job.state == JobState.RUNNING)
    return bool(session.scalar(select(found)))


def withdraw(session: Session, job_id: UUID, owner: str) -> int:
    """The job has all it wanted. Returns how many parts others than its `owner` had taken."""
    others = JobPart.taken_by.is_not(None) & (JobPart.taken_by != owner)
    helped = session.scalar(select(func.count()).where(JobPart.job_id == job_id, others)) or 0
    session.execute(delete(JobPart).where(JobPart.job_id == job_id))
    return helped


def forget_finished(session: Session) -> None:
    """Delete what jobs left behind that failed or were cancelled meanwhile."""
    finished = select(Job.id).where(Job.state.in_(FINISHED))
    session.execute(delete(JobPart).where(JobPart.job_id.in_(finished)))
