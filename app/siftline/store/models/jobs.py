"""Jobs, their history, the workers that run them, and the answers that are given once."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from siftline.domain.keys import DEFAULT_WORKSPACE, WORKSPACE_LENGTH
from siftline.store.models.base import Base, Json


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued','running','cancelling','cancelled','succeeded','failed')", name="state"
        ),
        Index("ix_jobs_state_created_at", "state", "created_at"),
        Index("ix_jobs_dataset_id_id", "dataset_id", "id"),
        Index("ix_jobs_state_lane_due_at", "state", "lane", "due_at"),
        Index("ix_jobs_state_kind_id", "state", "kind", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    # No foreign key: a detector points at the job that trains it, and a circle could not be deleted.
    detector_id: Mapped[UUID | None] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(16))
    lane: Mapped[str] = mapped_column(String(8), server_default="heavy")
    state: Mapped[str] = mapped_column(String(16))
    params: Mapped[dict[str, Any]]
    stage: Mapped[str | None] = mapped_column(String(40))
    progress: Mapped[float]
    attempt: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    """Whose turn it is: the least of its lane. See `store.jobs.next_queued` for the rule."""
    started_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    """When it last changed its state or made progress."""
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)
    estimate: Mapped[dict[str, Any] | None] = mapped_column(Json)
    usage: Mapped[dict[str, Any] | None] = mapped_column(Json)
    request_id: Mapped[str | None] = mapped_column(String(64))
    """Of the request that asked for it: the same in the logs of both sides."""


class JobMove(Base):
    """One row for every move a job ever made."""

    __tablename__ = "job_moves"
    __table_args__ = (Index("ix_job_moves_job_id_id", "job_id", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(String(200))
    at: Mapped[datetime]


class JobPart(Base):
    """Work that a running job has before it and another worker may do for it beforehand."""

    __tablename__ = "job_parts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    work: Mapped[str] = mapped_column(String(16), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)
    stop: Mapped[int]
    """Pieces from `start` on, without `stop`; of an extraction, images in the order of their content."""
    taken_by: Mapped[str | None] = mapped_column(String(100))


class Worker(Base):
    """A worker's heartbeat, what it takes and what it has; readiness asks for a recent one."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]
    lanes: Mapped[list[str] | None] = mapped_column(Json)
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    disk_free_bytes: Mapped[int | None] = mapped_column(BigInteger)


class IdempotencyKey(Base):
    """The answer a creating POST gave, so that sending it again gives it again."""

    __tablename__ = "idempotency_keys"

    workspace: Mapped[str] = mapped_column(
        String(WORKSPACE_LENGTH),
        primary_key=True,
        default=DEFAULT_WORKSPACE,
        server_default=DEFAULT_WORKSPACE,
    )
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    route: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
