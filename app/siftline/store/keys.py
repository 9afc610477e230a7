"""API keys, by the SHA-256 of what their holder shows."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline.domain.errors import Conflict, NotFound
from siftline.store.models import ApiKey
from siftline.store.session import now


def create(session: Session, name: str, role: str, sha256: str) -> ApiKey:
    """Raises Conflict when the name was ever given: decisions and logs name who made them."""
    if session.scalar(select(ApiKey.id).where(ApiKey.name == name)) is not None:
        raise Conflict(f"There is, or was, a key named {name!r}: choose another name.")
    key = ApiKey(id=uuid7(), name=name, role=role, sha256=sha256, created_at=now(session))
    session.add(key)
    session.flush()
    return key


def every(session: Session) -> Sequence[ApiKey]:
    """All keys ever made, newest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.id.desc())).all()


def valid_by_sha256(session: Session, sha256: str) -> ApiKey | None:
    return session.scalar(select(ApiKey).where(ApiKey.sha256 == sha256, ApiKey.revoked_at.is_(None)))


def valid_by_id(session: Session, key_id: UUID) -> ApiKey | None:
    return session.scalar(select(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None)))


def count_valid(session: Session, role: str | None = None) -> int:
    query = select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None))
    return session.scalar(query if role is None else query.where(ApiKey.role == role)) or 0


def mark_used(session: Session, key_id: UUID) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now(session)))


def revoke(session: Session, key_id: UUID) -> ApiKey:
    """Revoking twice is fine. Raises NotFound."""
    key = session.get(ApiKey, key_id, with_for_update=True)
    if key is None:
        raise NotFound(f"There is no key {key_id}.")
    key.revoked_at = key.revoked_at or now(session)
    session.flush()
    return key
