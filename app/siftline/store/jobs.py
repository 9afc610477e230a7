"""The job table. Every move is one guarded UPDATE and one history row, in the caller's transaction.

A worker holds a job by a claim: owner and attempt, good until `lease_until`. Everything a worker writes
carries its claim, so that one that lost its job (too slow, cut off, thought dead) writes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, case, select, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline.domain.errors import JobStateConflict, NotFound, SiftlineError, WorkerLost
from siftline.domain.jobs import LANES, Estimate, JobKind, JobState, Lane, Usage, sources
from siftline.store.models import Job, JobMove
from siftline.store.session import now

UNKNOWN_S = {Lane.LIGHT: 60.0, Lane.HEAVY: 3600.0, Lane.GPU: 3600.0}
"""Taken for the time of a job of which nobody knows how long it takes."""
LONGEST_PATIENCE_S = 24 * 3600.0
HELD = (JobState.RUNNING, JobState.CANCELLING)


class LostJob(Exception):
    """The job is not this worker's any more: taken by another, finished, or deleted with its dataset."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who runs a job, in which attempt."""

    job_id: UUID
    owner: str
    attempt: int

    @property
    def holds(self) -> ColumnElement[bool]:
        return (Job.id == self.job_id) & (Job.owner == self.owner) & (Job.attempt == self.attempt)


def create(
    session: Session,
    dataset_id: UUID,
    kind: JobKind,
    params: dict[str, Any],
    *,
    detector_id: UUID | None = None,
    job_id: UUID | None = None,
    lane: Lane | None = None,
    estimate: Estimate | None = None,
    request_id: str | None = None,
) -> Job:
    """A queued job, in its kind's lane unless another is named. `dispatch.enqueue` also rings for it."""
    at = now(session)
    lane = lane or LANES[kind]
    patience_s = UNKNOWN_S[lane] if estimate is None or estimate.seconds is None else estimate.seconds
    job = Job(
        id=job_id or uuid7(),
        dataset_id=dataset_id,
        detector_id=detector_id,
        kind=kind,
        lane=lane,
        state=JobState.QUEUED,
        params=params,
        progress=0.0,
        attempt=0,
        created_at=at,
        due_at=at + timedelta(seconds=min(patience_s, LONGEST_PATIENCE_S)),
        updated_at=at,
        estimate=None if estimate is None else asdict(estimate),
        request_id=request_id,
    )
    session.add(job)
    session.flush()
    _note(session, job, "created", at)
    return job


def get(session: Session, job_id: UUID) -> Job:
    """Raises NotFound."""
    job = session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def history(session: Session, job_id: UUID) -> Sequence[JobMove]:
    """Every move the job ever made, oldest first."""
    return session.scalars(select(JobMove).where(JobMove.job_id == job_id).order_by(JobMove.id)).all()


def next_queued(session: Session, lanes: Collection[Lane]) -> UUID | None:
    """The job of these lanes whose turn it is; only `claim` says who gets it.

    The turn: when it was asked for plus how long it is thought to take. A short job passes a long one that
    came before it, but only if it came less than the long one's own time later: nobody waits for ever.
    """
    mine = Job.state == JobState.QUEUED, Job.lane.in_(lanes)
    return session.scalar(select(Job.id).where(*mine).order_by(Job.due_at, Job.id).limit(1))


def claim(session: Session, job_id: UUID, owner: str, lease_s: float) -> Job | None:
    """Take a queued job; None when it is not to be had. `owner` is new for every claim.

    Asking again with the same owner, because the answer of a commit was lost, gives the job again.
    """
    at = now(session)
    taken = _move(
        session,
        Job.id == job_id,
        JobState.RUNNING,
        "claimed",
        owner=owner,
        attempt=Job.attempt + 1,
        lease_until=at + timedelta(seconds=lease_s),
        started_at=at,
        stage=None,
        progress=0.0,
    )
    return taken or session.scalar(
        select(Job).where(Job.id == job_id, Job.owner == owner, Job.state == JobState.RUNNING)
    )


def state_of(session: Session, held: Claim, *, lock: bool = False) -> JobState | None:
    """The job's state as long as the claim holds; None once it was lost."""
    query = select(Job.state).where(held.holds)
    state = session.scalar(query.with_for_update() if lock else query)
    return None if state is None else JobState(state)


def watched(session: Session, held: Claim) -> tuple[JobState, datetime] | None:
    """Its state, and when it last made a step; None once the claim was lost."""
    found = session.execute(select(Job.state, Job.updated_at).where(held.holds)).one_or_none()
    return None if found is None else (JobState(found.state), found.updated_at)


def renew(session: Session, held: Claim, lease_s: float) -> bool:
    """Push the lease out; False when the claim was lost or the job is finished."""
    until = now(session) + timedelta(seconds=lease_s)
    query = update(Job).where(held.holds, Job.state.in_(HELD)).values(lease_until=until)
    return session.scalar(query.returning(Job.id)) is not None


def report(session: Session, held: Claim, stage: str, progress: float) -> bool:
    """Tell how far the job is; False when it is not running under this claim any more.

    Only what is new counts as a step: one thread may tell the same for ever while all others stand still.
    """
    query = update(Job).where(held.holds, Job.state == JobState.RUNNING)
    is_new = Job.stage.is_distinct_from(stage) | (Job.progress != progress)
    stepped_at = case((is_new, now(session)), else_=Job.updated_at)
    values = {"stage": stage, "progress": progress, "updated_at": stepped_at}
    return session.scalar(query.values(values).returning(Job.id)) is not None


def request_cancel(session: Session, job_id: UUID) -> Job:
    """Ask a job to stop; it is cancelled at once if no worker holds it. Asking twice is fine.

    Raises NotFound, and JobStateConflict when the job is finished.
    """
    job = _move(session, Job.id == job_id, JobState.CANCELLING, "asked to cancel")
    if job is None:
        job = get(session, job_id)
        if job.state != JobState.CANCELLING:
            raise JobStateConflict(f"Job {job_id} is already {job.state}.")
    elif job.owner is None:
        job = _move(
            session, Job.id == job_id, JobState.CANCELLED, "no worker had it", finished_at=now(session)
        )
        assert job is not None  # noqa: S101 - the row is locked by the move before
    return job


def succeed(session: Session, held: Claim, result: dict[str, Any], usage: Usage | None = None) -> None:
    """Raises LostJob."""
    took = None if usage is None else asdict(usage)
    _finish(session, held, JobState.SUCCEEDED, "done", result=result, usage=took, progress=1.0)


def fail(session: Session, held: Claim, error: SiftlineError) -> None:
    """Raises LostJob, also when the job is being cancelled: then it ends as cancelled."""
    _finish(session, held, JobState.FAILED, error.code, error=error.problem())


def refuse(session: Session, job: Job, error: SiftlineError) -> Job:
    """End a job that nobody has begun. Raises LostJob when somebody has."""
    job_id, problem = job.id, error.problem()
    at = now(session)
    waits = (Job.id == job_id) & (Job.state == JobState.QUEUED)
    ended = _move(session, waits, JobState.FAILED, error.code, error=problem, finished_at=at)
    if ended is None:
        raise LostJob
    return ended


def cancelled(session: Session, held: Claim, reason: str) -> None:
    """The worker has stopped and is free. Raises LostJob."""
    _finish(session, held, JobState.CANCELLED, reason)


def release(session: Session, held: Claim, reason: str) -> None:
    """Back to the queue through no fault of the job: the attempt does not count. Raises LostJob."""
    if _requeue(session, held, reason, attempt=Job.attempt - 1) is None:
        raise LostJob


def give_up_or_requeue(
    session: Session, held: Claim, reason: str, max_attempts: int, error: type[WorkerLost] = WorkerLost
) -> Job:
    """After the job's process died: queue it once more, or fail it so if that was the last attempt.

    Raises LostJob.
    """
    if held.attempt < max_attempts:
        job = _requeue(session, held, reason)
        if job is None:
            raise LostJob
        return job
    tries = f"{held.attempt} attempts" if held.attempt > 1 else "1 attempt"
    problem = error(f"{error.happened}; given up after {tries}.").problem()
    return _finish(session, held, JobState.FAILED, reason, error=problem)


def stranded(session: Session, limit: int = 100) -> Sequence[Job]:
    """Jobs whose lease ran out, locked; those another sweeper has in hand are left out."""
    expired = select(Job).where(Job.state.in_(HELD), Job.lease_until < now(session))
    return session.scalars(expired.limit(limit).with_for_update(skip_locked=True)).all()


def holders(session: Session) -> set[str]:
    """The ids of the workers that have a job in hand; an owner is its worker's id and a mark of the claim."""
    owners = session.scalars(select(Job.owner).where(Job.state.in_(HELD)))
    return {owner.rpartition(":")[0] for owner in owners if owner is not None}


def mark_rung(session: Session, lanes: Collection[Lane], older_than_s: float, limit: int) -> Sequence[Job]:
    """Queued jobs of these lanes whose bell rang too long ago, by their turn, marked as rung now."""
    at = now(session)
    silent = Job.rung_at.is_(None) | (Job.rung_at < at - timedelta(seconds=older_than_s))
    waiting = select(Job).where(Job.state == JobState.QUEUED, Job.lane.in_(lanes), silent)
    waiting = waiting.order_by(Job.due_at, Job.id).limit(limit)
    jobs = session.scalars(waiting.with_for_update(skip_locked=True)).all()
    for job in jobs:
        job.rung_at = at
    session.flush()
    return jobs


def _finish(session: Session, held: Claim, to: JobState, reason: str, **changes: Any) -> Job:
    # The owner stays on the row: it tells a worker whose commit went unanswered that the success is its own.
    job = _move(session, held.holds, to, reason, lease_until=None, finished_at=now(session), **changes)
    if job is None:
        raise LostJob
    return job


def _requeue(session: Session, held: Claim, reason: str, **changes: Any) -> Job | None:
    freed = {"owner": None, "lease_until": None, "rung_at": None, "stage": None, "progress": 0.0}
    return _move(session, held.holds, JobState.QUEUED, reason, **freed, **changes)


def _move(
    session: Session, which: ColumnElement[bool], to: JobState, reason: str, **changes: Any
) -> Job | None:
    """The one place where a job changes state; None when it is in no state that may become `to`."""
    at = now(session)
    moved = session.scalars(
        update(Job)
        .where(which, Job.state.in_(sources(to)))
        .values(state=to, updated_at=at, **changes)
        .returning(Job),
        execution_options={"populate_existing": True, "synchronize_session": False},
    ).one_or_none()
    if moved is not None:
        _note(session, moved, reason, at)
    return moved


def _note(session: Session, job: Job, reason: str, at: datetime) -> None:
    session.add(
        JobMove(
            id=uuid7(),
            job_id=job.id,
            state=job.state,
            attempt=job.attempt,
            owner=job.owner,
            reason=reason,
            at=at,
        )
    )
    session.flush()
