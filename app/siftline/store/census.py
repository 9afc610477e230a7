"""Counts over the job table, for those who watch."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from siftline.domain.jobs import JobKind, JobState
from siftline.store.jobs import HELD
from siftline.store.models import Job
from siftline.store.session import now

LOOKED_AT = 100
LEARNED_FROM = 5


def jobs_by_state(session: Session, states: Collection[JobState]) -> Sequence[tuple[str, str, int]]:
    """(kind, state, count) of jobs in one of `states`."""
    query = select(Job.kind, Job.state, func.count()).where(Job.state.in_(states))
    return [
        (kind, state, count) for kind, state, count in session.execute(query.group_by(Job.state, Job.kind))
    ]


def running_by_stage(session: Session) -> Sequence[tuple[str, str | None, int]]:
    """(kind, stage, count); a job that has just been claimed has no stage."""
    query = select(Job.kind, Job.stage, func.count()).where(Job.state.in_(HELD))
    return [
        (kind, stage, count) for kind, stage, count in session.execute(query.group_by(Job.kind, Job.stage))
    ]


def queues(session: Session) -> Sequence[tuple[str, int, datetime]]:
    """(lane, jobs waiting, when the oldest was asked for)."""
    query = select(Job.lane, func.count(), func.min(Job.created_at)).where(Job.state == JobState.QUEUED)
    return [(lane, count, oldest) for lane, count, oldest in session.execute(query.group_by(Job.lane))]


def stillness(session: Session) -> Sequence[tuple[str, datetime]]:
    """(kind, when that running job of it made its last step that has been still for longest)."""
    query = select(Job.kind, func.min(Job.updated_at)).where(Job.state == JobState.RUNNING)
    return [(kind, at) for kind, at in session.execute(query.group_by(Job.kind))]


def leases(session: Session) -> tuple[int, int]:
    """Jobs in hand, and those of them whose lease ran out."""
    at = now(session)
    query = select(func.count(), func.count().filter(Job.lease_until < at)).where(Job.state.in_(HELD))
    held, expired = session.execute(query).one()
    return held, expired


def newest_usage(session: Session) -> dict[str, dict[str, Any]]:
    """By kind, what its newest job that succeeded took."""
    found = {}
    for kind in JobKind:
        query = select(Job.usage).where(
            Job.kind == kind, Job.state == JobState.SUCCEEDED, Job.finished_at.is_not(None)
        )
        usage = session.scalar(query.order_by(Job.id.desc()).limit(1))
        if usage is not None:
            found[str(kind)] = usage
    return found


def usages(session: Session, kind: JobKind, profile: str) -> Sequence[tuple[int, dict[str, Any]]]:
    """(units, usage) of the newest jobs of a kind and profile that succeeded at their first attempt."""
    query = select(Job.estimate, Job.usage).where(
        Job.kind == kind, Job.state == JobState.SUCCEEDED, Job.attempt == 1, Job.finished_at.is_not(None)
    )
    found = session.execute(query.order_by(Job.id.desc()).limit(LOOKED_AT))
    return [
        (estimate["units"], usage)
        for estimate, usage in found
        if estimate is not None and usage is not None and estimate["profile"] == profile
    ][:LEARNED_FROM]
