"""Receipts: what became of each file that was ever sent."""

from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from siftline.store.models import Receipt

ROWS_PER_INSERT = 1000


def add_all(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    rest = iter(rows)
    while chunk := list(islice(rest, ROWS_PER_INSERT)):
        session.execute(insert(Receipt), chunk)


def page(
    session: Session, dataset_id: UUID, *, status: str | None, after: UUID | None, limit: int
) -> Sequence[Receipt]:
    """Receipts of a dataset in the order the files came."""
    query = select(Receipt).where(Receipt.dataset_id == dataset_id).order_by(Receipt.id).limit(limit)
    if status is not None:
        query = query.where(Receipt.status == status)
    if after is not None:
        query = query.where(Receipt.id > after)
    return session.scalars(query).all()


def rejected_counts(session: Session, dataset_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Number of rejected files of each dataset that has any."""
    rows = session.execute(
        select(Receipt.dataset_id, func.count())
        .where(Receipt.dataset_id.in_(dataset_ids), Receipt.status == "rejected")
        .group_by(Receipt.dataset_id)
    )
    return dict(rows.all())
