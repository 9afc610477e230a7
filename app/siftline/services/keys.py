"""Keys: made, listed, rotated, revoked. Each opens one workspace."""

import logging
from typing import cast
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.errors import Conflict
from siftline.domain.keys import hash_of, new_key
from siftline.store import audit, keys
from siftline.store.models import ApiKey
from siftline.store.scope import workspace_of

log = logging.getLogger(__name__)


def create(session: Session, new: schemas.NewKey, by: str, *, has_master: bool = False) -> schemas.KeyCreated:
    """`has_master`: the settings hold an admin's key, whatever the database holds.

    Raises Conflict for a name that was given before, and for a workspace's first key that could not make
    others.
    """
    workspace = new.workspace or workspace_of(session)
    keys.take_turn(session, workspace)
    if new.role != "admin" and not has_master and not keys.count_valid(session, workspace, "admin"):
        raise Conflict(
            f"The first key of {workspace!r} must be an admin's: from then on nobody comes in without a key."
        )
    secret = new_key()
    key = keys.create(session, workspace, new.name, new.role, hash_of(secret))
    audit.touch(session, key.workspace)
    log.info("key %s (%s, %s, %s) made by %s", key.id, key.name, key.role, key.workspace, by)
    return schemas.KeyCreated(**describe(key).model_dump(), key=secret)


def every(session: Session) -> list[schemas.Key]:
    """Newest first, revoked ones too."""
    return [describe(key) for key in keys.every(session)]


def rotate(session: Session, key_id: UUID, how: schemas.RotateKey, by: str) -> schemas.KeyCreated:
    """A new secret under the same name; the old one opens for `grace_s` more. Raises NotFound, Conflict."""
    secret = new_key()
    key = keys.rotate(session, key_id, hash_of(secret), how.grace_s)
    audit.touch(session, key.workspace)
    log.info("key %s (%s) rotated by %s, grace %.0f s", key.id, key.name, by, how.grace_s)
    return schemas.KeyCreated(**describe(key).model_dump(), key=secret)


def revoke(session: Session, key_id: UUID, by: str, *, has_master: bool = False) -> None:
    """Raises NotFound, and Conflict for a workspace's last admin key while others of it are valid."""
    keys.take_turn(session, keys.workspace_of(session, key_id))
    key = keys.revoke(session, key_id)
    audit.touch(session, key.workspace)
    others, admins = (keys.count_valid(session, key.workspace, role) for role in (None, "admin"))
    if not has_master and others and not admins:
        raise Conflict("This is the last admin key. Revoke the others first, or make another admin.")
    log.info("key %s (%s) revoked by %s", key.id, key.name, by)


def describe(key: ApiKey) -> schemas.Key:
    return schemas.Key(
        id=key.id,
        workspace=key.workspace,
        name=key.name,
        role=cast(schemas.RoleName, key.role),
        created_at=key.created_at,
        rotated_at=key.rotated_at,
        previous_until=key.previous_until,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )
