"""Keys: made, listed, revoked."""

import logging
from typing import cast
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.errors import Conflict
from siftline.domain.keys import hash_of, new_key
from siftline.store import keys
from siftline.store.models import ApiKey

log = logging.getLogger(__name__)


def create(session: Session, new: schemas.NewKey, by: str, *, has_master: bool = False) -> schemas.KeyCreated:
    """`has_master`: the settings hold an admin's key, whatever the database holds.

    Raises Conflict for a name that was given before, and for a first key that could not make others.
    """
    if new.role != "admin" and not has_master and not keys.count_valid(session, "admin"):
        raise Conflict("The first key must be an admin's: from then on nobody comes in without a key.")
    secret = new_key()
    key = keys.create(session, new.name, new.role, hash_of(secret))
    log.info("key %s (%s, %s) made by %s", key.id, key.name, key.role, by)
    return schemas.KeyCreated(**describe(key).model_dump(), key=secret)


def every(session: Session) -> list[schemas.Key]:
    """Newest first, revoked ones too."""
    return [describe(key) for key in keys.every(session)]


def revoke(session: Session, key_id: UUID, by: str, *, has_master: bool = False) -> None:
    """Raises NotFound, and Conflict for the last admin's key while others are valid."""
    key = keys.revoke(session, key_id)
    if not has_master and not keys.count_valid(session, "admin") and keys.count_valid(session):
        raise Conflict("This is the last admin key. Revoke the others first, or make another admin.")
    log.info("key %s (%s) revoked by %s", key.id, key.name, by)


def describe(key: ApiKey) -> schemas.Key:
    return schemas.Key(
        id=key.id,
        name=key.name,
        role=cast(schemas.RoleName, key.role),
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
