"""The audit log: who changed what, when, from where. Written by the transaction that makes the change.

A session whose `info` holds a `Deed` leaves a row with every commit: no change is without its row, and no
row without its change, whenever the process dies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline.store.models import ApiKey, AuditEntry, Base, Dataset, Detector, Job, ReviewBatch

NAMED = {ApiKey: "key", Dataset: "dataset", Detector: "detector", Job: "job", ReviewBatch: "reviews"}


@dataclass(frozen=True, slots=True)
class Deed:
    """What a request or a command is about to do. `objects` are `kind:id`, as its path names them."""

    who: str
    role: str
    workspace: str
    action: str
    client: str
    objects: tuple[str, ...] = ()
    request_id: str | None = None


def page(session: Session, *, before: UUID | None, limit: int) -> Sequence[AuditEntry]:
    """Newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return session.scalars(query).all()


def remember_made(session: Session, made: Base) -> None:
    """Listens to `pending_to_persistent`."""
    if (kind := NAMED.get(type(made))) is not None and "deed" in session.info:
        session.info.setdefault("made", []).append(f"{kind}:{made.id}")  # type: ignore[attr-defined]  # all of NAMED have one


def touch(session: Session, workspace: str) -> None:
    """What this session does concerns that workspace: its admins shall find it in their log."""
    session.info["touched"] = workspace


def write_deed(session: Session, at: datetime) -> None:
    """The row of the deed that is about to be committed."""
    deed: Deed = session.info["deed"]
    session.flush()
    entry = AuditEntry(
        id=uuid7(),
        at=at,
        workspace=session.info.pop("touched", deed.workspace),
        who=deed.who,
        role=deed.role,
        action=deed.action,
        objects=[*deed.objects, *session.info.pop("made", [])],
        client=deed.client,
        request_id=deed.request_id,
    )
    session.add(entry)
    session.flush()
