"""Answers kept under the client's `Idempotency-Key`, written with the work they answer for."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from siftline.store.models import IdempotencyKey
from siftline.store.scope import workspace_of


def find(session: Session, key: str, route: str) -> IdempotencyKey | None:
    return session.get(IdempotencyKey, (workspace_of(session), key, route))


def keep(
    session: Session,
    *,
    key: str,
    route: str,
    request_hash: str,
    status: int,
    headers: dict[str, Any],
    body: dict[str, Any],
    created_at: datetime,
) -> None:
    """Raises IntegrityError at once when another request with this key has finished first."""
    session.add(
        IdempotencyKey(
            workspace=workspace_of(session),
            key=key,
            route=route,
            request_hash=request_hash,
            status=status,
            headers=headers,
            body=body,
            created_at=created_at,
        )
    )
    session.flush()


def forget_dataset(session: Session, dataset_id: UUID) -> None:
    """The answers to the requests that made it or were for it: they name its files."""
    made_it = IdempotencyKey.headers["Location"].as_string() == f"/datasets/{dataset_id}"
    for_it = IdempotencyKey.route.contains(f"/datasets/{dataset_id}/", autoescape=True)
    session.execute(delete(IdempotencyKey).where(made_it | for_it))


def count_old(session: Session, before: datetime) -> int:
    query = select(func.count()).select_from(IdempotencyKey).where(IdempotencyKey.created_at < before)
    return session.scalar(query) or 0


def forget(session: Session, before: datetime) -> int:
    """Answers given before that moment are given no more: the same request again is a new one."""
    gone = delete(IdempotencyKey).where(IdempotencyKey.created_at < before)
    return len(session.scalars(gone.returning(IdempotencyKey.key)).all())
