"""The audit log as admins see it."""

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.store import audit, cursor


def page(session: Session, *, after: str | None, limit: int) -> schemas.Page[schemas.AuditEntry]:
    """Newest first. Raises BadCursor."""
    before = None if after is None else cursor.decode(after, cursor.AfterId).id
    rows = audit.page(session, before=before, limit=limit + 1)
    more = cursor.encode(cursor.AfterId(id=rows[limit - 1].id)) if len(rows) > limit else None
    items = [schemas.AuditEntry.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return schemas.Page(items=items, next_cursor=more)
