"""API keys, by the SHA-256 of what their holder shows."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline.domain.errors import Conflict, NotFound
from siftline.store.models import ApiKey
from siftline.store.session import now

KEYS_LOCK = 0x51F71144  # any number nobody else uses for a PostgreSQL advisory lock


def take_turn(session: Session, workspace: str) -> None:
    """Nobody else makes or revokes a key of the workspace before this transaction ends.

    Whoever counts keys counts for what follows: two admins could revoke each other, two keys get one name. A
    row lock would not do, since the first key has none. SQLite's write transactions take turns anyhow.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(KEYS_LOCK, func.hashtext(workspace))))


def create(session: Session, workspace: str, name: str, role: str, sha256: str) -> ApiKey:
    """Raises Conflict when the workspace ever had one of this name: decisions and logs name who made them."""
    same = select(ApiKey.id).where(ApiKey.workspace == workspace, ApiKey.name == name)
    if session.scalar(same) is not None:
        raise Conflict(f"There is, or was, a key named {name!r}: choose another name.")
    at = now(session)
    key = ApiKey(id=uuid7(), workspace=workspace, name=name, role=role, sha256=sha256, created_at=at)
    session.add(key)
    session.flush()
    return key


def every(session: Session) -> Sequence[ApiKey]:
    """All keys ever made, newest first."""
    return session.scalars(select(ApiKey).order_by(ApiKey.id.desc())).all()


def valid_by_sha256(session: Session, sha256: str) -> ApiKey | None:
    """By the hash of the key, or of the one before while its grace lasts.

    The index compares hashes: what its timing could tell of one is no help to whoever must find a key to it.
    """
    before = (ApiKey.previous_sha256 == sha256) & (ApiKey.previous_until > now(session))
    this = (ApiKey.sha256 == sha256) | before
    return session.scalar(select(ApiKey).where(this, ApiKey.revoked_at.is_(None)))


def valid_by_id(session: Session, key_id: UUID, mark: str) -> ApiKey | None:
    """`mark`: how a hash begins that is still good for the key."""
    before = ApiKey.previous_sha256.startswith(mark, autoescape=True) & (ApiKey.previous_until > now(session))
    this = ApiKey.sha256.startswith(mark, autoescape=True) | before
    return session.scalar(select(ApiKey).where(ApiKey.id == key_id, this, ApiKey.revoked_at.is_(None)))


def count_valid(session: Session, workspace: str | None = None, role: str | None = None) -> int:
    query = select(func.count()).select_from(ApiKey).where(ApiKey.revoked_at.is_(None))
    if workspace is not None:
        query = query.where(ApiKey.workspace == workspace)
    return session.scalar(query if role is None else query.where(ApiKey.role == role)) or 0


def mark_used(session: Session, key_id: UUID) -> None:
    session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now(session)))


def workspace_of(session: Session, key_id: UUID) -> str:
    """Which workspace a key opens, revoked ones too. Raises NotFound."""
    workspace = session.scalar(select(ApiKey.workspace).where(ApiKey.id == key_id))
    if workspace is None:
        raise NotFound(f"There is no key {key_id}.")
    return workspace


def revoke(session: Session, key_id: UUID) -> ApiKey:
    """Revoking twice is fine. Raises NotFound."""
    key = _locked(session, key_id)
    key.revoked_at = key.revoked_at or now(session)
    session.flush()
    return key


def rotate(session: Session, key_id: UUID, sha256: str, grace_s: float) -> ApiKey:
    """Another hash in the place of the present one, which stays good for `grace_s`.

    The one before that ends now. Raises NotFound, and Conflict for a revoked key.
    """
    key = _locked(session, key_id)
    if key.revoked_at is not None:
        raise Conflict("The key is revoked: make another one.")
    at = now(session)
    key.previous_sha256, key.previous_until = key.sha256, at + timedelta(seconds=grace_s)
    key.sha256, key.rotated_at = sha256, at
    session.flush()
    return key


def _locked(session: Session, key_id: UUID) -> ApiKey:
    key = session.scalar(select(ApiKey).where(ApiKey.id == key_id).with_for_update())
    if key is None:
        raise NotFound(f"There is no key {key_id}.")
    return key
