"""Purification versions and what they say of each image."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siftline.store.models.base import Base, Json


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
    based_on: Mapped[int | None]
    """The version whose signals this one uses, cut anew after people decided."""
    review_revision: Mapped[int] = mapped_column(default=0, server_default="0")
    """Human decisions up to this one were heeded."""


class PurifiedItem(Base):
    """One image in one version. Rank 1 is the most suspect."""

    __tablename__ = "purified_items"
    __table_args__ = (
        UniqueConstraint("purification_id", "image_id"),
        Index("ix_purified_items_purification_id_verdict_rank", "purification_id", "verdict", "rank"),
        # The order of the disputed. With the score it also covers the histogram: a row has a heat map in it.
        Index(
            "ix_purified_items_purification_id_confidence_rank",
            *("purification_id", "confidence", "rank", "score"),
        ),
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
    cluster: Mapped[int | None]
    explanation: Mapped[dict[str, Any] | None] = mapped_column(Json)
    heat_rows: Mapped[int]
    heat_cols: Mapped[int]
    # rows × cols bytes on the version's fixed scale: written in the version's own transaction, never orphaned
    heat: Mapped[bytes]
