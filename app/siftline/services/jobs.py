"""Jobs as users see them."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.jobs import JobKind, JobState, eta_s
from siftline.store import cursor, job_lists, jobs
from siftline.store.models import Job
from siftline.store.session import now

LOOK_AGAIN_S = 5


def describe(job: Job, at: datetime) -> schemas.Job:
    running = job.state == JobState.RUNNING and job.started_at is not None
    running_for_s = (at - job.started_at).total_seconds() if running and job.started_at else 0.0
    return schemas.Job(
        id=job.id,
        dataset_id=job.dataset_id,
        detector_id=job.detector_id,
        kind=JobKind(job.kind).value,
        state=JobState(job.state).value,
        stage=job.stage,
        progress=job.progress,
        eta_s=eta_s(job.progress, running_for_s) if running else None,
        attempt=job.attempt,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        result=job.result,
        error=None if job.error is None else schemas.Problem.model_validate(job.error),
        estimate=None if job.estimate is None else schemas.Estimate.model_validate(job.estimate),
    )


def look_again_s(job: schemas.Job) -> int:
    """When to ask again whether an unfinished job is done."""
    return LOOK_AGAIN_S if job.eta_s is None else max(1, round(min(job.eta_s, 60)))


def get(session: Session, job_id: UUID) -> schemas.Job:
    """Raises NotFound."""
    return describe(jobs.get(session, job_id), now(session))


def newest_purification(session: Session, dataset_id: UUID) -> schemas.Job | None:
    job = job_lists.newest_purification(session, dataset_id)
    return None if job is None else describe(job, now(session))


def page(
    session: Session, *, dataset_id: UUID | None, states: Sequence[JobState], after: str | None, limit: int
) -> schemas.Page[schemas.Job]:
    """Newest first."""
    before = None if after is None else cursor.decode(after, cursor.AfterId).id
    rows = job_lists.page(session, dataset_id=dataset_id, states=states, before=before, limit=limit + 1)
    at = now(session)
    more = cursor.encode(cursor.AfterId(id=rows[limit - 1].id)) if len(rows) > limit else None
    return schemas.Page(items=[describe(job, at) for job in rows[:limit]], next_cursor=more)


def cancel(session: Session, job_id: UUID) -> schemas.Job:
    """Raises NotFound, and JobStateConflict when the job is finished."""
    return describe(jobs.request_cancel(session, job_id), now(session))
