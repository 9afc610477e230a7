"""Detectors, their artifacts, and what they said of images in large requests."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siftline.store.models.base import Base, Json


class Detector(Base):
    """Its state is its training job's. Lineage, calibration and curve are written with the job's success."""

    __tablename__ = "detectors"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    # No cascade: a gate in somebody's CI hangs on a detector, so it must be deleted on purpose.
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id"), index=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), unique=True)
    version: Mapped[int]
    name: Mapped[str] = mapped_column(String(200))
    method: Mapped[str] = mapped_column(String(16))
    options: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    lineage: Mapped[dict[str, Any] | None] = mapped_column(Json)
    calibration: Mapped[dict[str, Any] | None] = mapped_column(Json)
    curve: Mapped[list[Any] | None] = mapped_column(Json)


class Artifact(Base):
    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("detector_id", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    detector_id: Mapped[UUID] = mapped_column(ForeignKey("detectors.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    media_type: Mapped[str] = mapped_column(String(100))
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    schema_version: Mapped[int]
    created_at: Mapped[datetime]


class ArtifactChunk(Base):
    """A piece of an artifact: neither side ever holds a whole model in memory to move it."""

    __tablename__ = "artifact_chunks"

    artifact_id: Mapped[UUID] = mapped_column(
        ForeignKey("artifacts.id", ondelete="CASCADE"), primary_key=True
    )
    number: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes]


class JobScore(Base):
    """What a detector said of one file of a large request; `reason` when the file was no image."""

    __tablename__ = "job_scores"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(1024))
    sha256: Mapped[str] = mapped_column(String(64))
    score: Mapped[float | None]
    p_value: Mapped[float | None]
    verdict: Mapped[str | None] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(String(500))
