"""The tables. Migrations make them; these classes only describe them to SQLAlchemy."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Json = JSON().with_variant(JSONB(), "postgresql")


class Utc(TypeDecorator[datetime]):
    """Aware UTC on both databases: SQLite hands DateTime(timezone=True) back naive."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is not None and value.tzinfo is None:
            raise ValueError("naive datetime: give it a time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    # Alembic's batch mode can only drop constraints that have names.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: Utc,
        dict[str, Any]: Json,
        list[str]: Json,
        UUID: Uuid,
        bytes: LargeBinary,
    }


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    options: Mapped[dict[str, Any]]


class Image(Base):
    """One accepted image. The bytes are the blob `datasets/<dataset_id>/<sha256>`."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("dataset_id", "sha256"),
        Index("ix_images_dataset_id_id", "dataset_id", "id"),  # the page order of a dataset's images
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(1024))
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    mode: Mapped[str] = mapped_column(String(16))
    format: Mapped[str] = mapped_column(String(16))
    # range of the samples of an image of more than eight bits: the set's common tone is found from these
    sample_low: Mapped[float | None]
    sample_high: Mapped[float | None]
    sample_is_float: Mapped[bool | None]
    created_at: Mapped[datetime]


class Receipt(Base):
    """What became of each file that was ever sent: nothing vanishes without a row."""

    __tablename__ = "receipts"
    __table_args__ = (
        Index("ix_receipts_dataset_id_id", "dataset_id", "id"),
        Index("ix_receipts_dataset_id_status_id", "dataset_id", "status", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    batch_id: Mapped[UUID]
    name: Mapped[str] = mapped_column(String(1024))
    sha256: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "state IN ('queued','running','cancelling','cancelled','succeeded','failed')", name="state"
        ),
        Index("ix_jobs_state_created_at", "state", "created_at"),
        Index("ix_jobs_dataset_id_id", "dataset_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    params: Mapped[dict[str, Any]]
    stage: Mapped[str | None] = mapped_column(String(40))
    progress: Mapped[float]
    attempt: Mapped[int]
    owner: Mapped[str | None] = mapped_column(String(100))
    lease_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    result: Mapped[dict[str, Any] | None] = mapped_column(Json)
    error: Mapped[dict[str, Any] | None] = mapped_column(Json)


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


class Worker(Base):
    """A worker's heartbeat; readiness asks for a recent one."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    started_at: Mapped[datetime]
    beat_at: Mapped[datetime]


class Purification(Base):
    """One immutable version of a dataset's ranked split."""

    __tablename__ = "purifications"
    __table_args__ = (UniqueConstraint("dataset_id", "version"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    version: Mapped[int]
    created_at: Mapped[datetime]
    options: Mapped[dict[str, Any]]
    backbone: Mapped[dict[str, Any]]
    contamination: Mapped[dict[str, Any]]
    cut: Mapped[dict[str, Any]]
    counts: Mapped[dict[str, Any]]
    heat_scale: Mapped[dict[str, Any]]
    stage_seconds: Mapped[dict[str, Any]]


class PurifiedItem(Base):
    """One image in one version. Rank 1 is the most suspect."""

    __tablename__ = "purified_items"
    __table_args__ = (
        UniqueConstraint("purification_id", "image_id"),
        Index("ix_purified_items_purification_id_verdict_rank", "purification_id", "verdict", "rank"),
    )

    purification_id: Mapped[UUID] = mapped_column(
        ForeignKey("purifications.id", ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[UUID] = mapped_column(ForeignKey("images.id", ondelete="CASCADE"), index=True)
    score: Mapped[float]
    p_anomalous: Mapped[float]
    interval_lo: Mapped[float]
    interval_hi: Mapped[float]
    verdict: Mapped[str] = mapped_column(String(8))
    needs_review: Mapped[bool]
    confidence: Mapped[float]
    signals: Mapped[dict[str, Any]]
    near_duplicates: Mapped[list[str]]
    heat_rows: Mapped[int]
    heat_cols: Mapped[int]
    # rows × cols bytes on the version's fixed scale: written in the version's own transaction, never orphaned
    heat: Mapped[bytes]


class IdempotencyKey(Base):
    """The answer a creating POST gave, so that sending it again gives it again."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    route: Mapped[str] = mapped_column(String(200), primary_key=True)
    request_hash: Mapped[str] = mapped_column(String(64))
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
