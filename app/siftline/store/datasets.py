"""Datasets."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import delete as delete_rows
from sqlalchemy import select
from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound
from siftline.store.models import Dataset, Job, Purification


def get(session: Session, dataset_id: UUID) -> Dataset:
    """Raises NotFound."""
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset


def lock(session: Session, dataset_id: UUID) -> Dataset:
    """The dataset, not to be deleted or given a version by anybody else before this transaction ends.

    Raises NotFound. SQLite needs no row lock: its write transactions take turns.
    """
    dataset = session.scalar(select(Dataset).where(Dataset.id == dataset_id).with_for_update())
    if dataset is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    return dataset


def page(session: Session, *, before: UUID | None, limit: int) -> Sequence[Dataset]:
    """Newest first."""
    query = select(Dataset).order_by(Dataset.id.desc()).limit(limit)
    if before is not None:
        query = query.where(Dataset.id < before)
    return session.scalars(query).all()


def known(session: Session, dataset_ids: Collection[UUID]) -> set[UUID]:
    """Those that there are."""
    return set(session.scalars(select(Dataset.id).where(Dataset.id.in_(dataset_ids))))


def delete(session: Session, dataset_id: UUID) -> None:
    """Everything the database knows of the dataset."""
    # Versions point at their jobs, so a cascade from the dataset alone could meet the jobs first.
    session.execute(delete_rows(Purification).where(Purification.dataset_id == dataset_id))
    session.execute(delete_rows(Job).where(Job.dataset_id == dataset_id))
    session.execute(delete_rows(Dataset).where(Dataset.id == dataset_id))
