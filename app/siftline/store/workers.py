"""Who is there to work."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from siftline.store.models import Worker
from siftline.store.session import now

FORGET_AFTER_S = 24 * 3600.0


def beat(session: Session, worker_id: str) -> None:
    """I am alive. Only the worker itself writes its row, so update-then-insert cannot race."""
    at = now(session)
    beaten = update(Worker).where(Worker.id == worker_id).values(beat_at=at).returning(Worker.id)
    if session.scalar(beaten) is None:
        session.add(Worker(id=worker_id, started_at=at, beat_at=at))
        session.flush()


def leave(session: Session, worker_id: str) -> None:
    """A worker that goes away properly."""
    session.execute(delete(Worker).where(Worker.id == worker_id))


def alive(session: Session, within_s: float) -> Sequence[Worker]:
    """The workers heard of within the last `within_s` seconds."""
    since = now(session) - timedelta(seconds=within_s)
    return session.scalars(select(Worker).where(Worker.beat_at >= since).order_by(Worker.id)).all()


def forget_the_dead(session: Session) -> None:
    """Drop the rows of workers that were killed long ago."""
    session.execute(delete(Worker).where(Worker.beat_at < now(session) - timedelta(seconds=FORGET_AFTER_S)))
