"""Jobs looked up: the newest ones, the unfinished ones, page by page."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from siftline.domain.jobs import FINISHED, JobKind, JobState
from siftline.store.models import Job


def newest_purification(session: Session, dataset_id: UUID) -> Job | None:
    """The newest job that makes a version."""
    query = select(Job).where(Job.dataset_id == dataset_id, Job.kind.in_([JobKind.PURIFY, JobKind.RECUT]))
    return session.scalar(query.order_by(Job.id.desc()).limit(1))


def newest_of_datasets(session: Session, dataset_ids: Iterable[UUID]) -> dict[UUID, Job]:
    """The newest job of each dataset that has one; job ids are UUIDv7 and grow with time."""
    newest = (
        select(
            Job.id, func.row_number().over(partition_by=Job.dataset_id, order_by=Job.id.desc()).label("nth")
        )
        .where(Job.dataset_id.in_(list(dataset_ids)))
        .subquery()
    )
    found = session.scalars(select(Job).where(Job.id.in_(select(newest.c.id).where(newest.c.nth == 1))))
    return {job.dataset_id: job for job in found}


def unfinished_of_dataset(session: Session, dataset_id: UUID) -> Job | None:
    """A job of the dataset that is waiting, running or being cancelled, if there is one."""
    unfinished = Job.state.not_in(FINISHED)
    return session.scalar(select(Job).where(Job.dataset_id == dataset_id, unfinished).limit(1))


def page(
    session: Session,
    *,
    dataset_id: UUID | None,
    states: Sequence[JobState],
    before: UUID | None,
    limit: int,
) -> Sequence[Job]:
    """Newest first; no states means all."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if dataset_id is not None:
        query = query.where(Job.dataset_id == dataset_id)
    if states:
        query = query.where(Job.state.in_(states))
    if before is not None:
        query = query.where(Job.id < before)
    return session.scalars(query).all()
