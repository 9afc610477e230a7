"""Datasets, their images, what became of every file, and what people decided."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siftline.domain.keys import DEFAULT_WORKSPACE, WORKSPACE_LENGTH
from siftline.store.models.base import Base


class Dataset(Base):
    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_workspace_id", "workspace", "id"),)  # the page order of a workspace

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace: Mapped[str] = mapped_column(
        String(WORKSPACE_LENGTH), default=DEFAULT_WORKSPACE, server_default=DEFAULT_WORKSPACE
    )
    """Whose it is, and with it its images, versions, jobs and detectors: see `store.scope`."""
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[datetime]
    options: Mapped[dict[str, Any]]
    review_revision: Mapped[int] = mapped_column(default=0, server_default="0")
    """The number of the newest batch of human decisions."""
    images: Mapped[int] = mapped_column(default=0, server_default="0")
    """How many there are: counting a million takes a second, and every list of datasets asks."""


class Image(Base):
    """One accepted image. The bytes are the blob `datasets/<dataset_id>/<sha256>`."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("dataset_id", "sha256"),
        Index("ix_images_dataset_id_id", "dataset_id", "id"),  # the page order of a dataset's images
        Index("ix_images_dataset_id_review", "dataset_id", "review"),
        Index("ix_images_sha256", "sha256"),
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
    # what a person said last, kept here because every list asks for it; `review_decisions` has the history
    review: Mapped[str | None] = mapped_column(String(8))
    reviewed_by: Mapped[str | None] = mapped_column(String(100))
    reviewed_at: Mapped[datetime | None]
    review_revision: Mapped[int] = mapped_column(default=0, server_default="0")
    """Of the batch whose decision stands: taking a later one back brings an earlier number back."""


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


class ReviewBatch(Base):
    """Decisions made at once. Append-only: taking a batch back is a batch of its own."""

    __tablename__ = "review_batches"
    __table_args__ = (UniqueConstraint("dataset_id", "revision"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dataset_id: Mapped[UUID] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    revision: Mapped[int]
    by: Mapped[str] = mapped_column(String(100))
    at: Mapped[datetime]
    images: Mapped[int]
    decision: Mapped[str | None] = mapped_column(String(8))
    undoes: Mapped[UUID | None]


class ReviewDecision(Base):
    """What one batch said of one image, and what had been said before."""

    __tablename__ = "review_decisions"

    batch_id: Mapped[UUID] = mapped_column(
        ForeignKey("review_batches.id", ondelete="CASCADE"), primary_key=True
    )
    image_id: Mapped[UUID] = mapped_column(
        ForeignKey("images.id", ondelete="CASCADE"), primary_key=True, index=True
    )
    decision: Mapped[str] = mapped_column(String(8))
    previous: Mapped[str | None] = mapped_column(String(8))
    revision: Mapped[int]
    """`Image.review_revision` from here on: the batch's own, or an earlier one's that it brought back."""
    previous_revision: Mapped[int]
    """`Image.review_revision` until then."""
