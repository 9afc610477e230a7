"""Who is there to work."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from siftline.domain.jobs import Lane
from siftline.store.models import Worker
from siftline.store.session import now

FORGET_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a worker takes and has; None where it cannot tell."""

    lanes: tuple[Lane, ...] = tuple(Lane)
    memory_bytes: int | None = None
    disk_free_bytes: int | None = None


def beat(session: Session, worker_id: str, capacity: Capacity = Capacity()) -> None:
    """I am alive. Only the worker itself writes its row, so update-then-insert cannot race."""
    at = now(session)
    told = {
        "beat_at": at,
        "lanes": list(capacity.lanes),
        "memory_bytes": capacity.memory_bytes,
        "disk_free_bytes": capacity.disk_free_bytes,
    }
    beaten = update(Worker).where(Worker.id == worker_id).values(told).returning(Worker.id)
    if session.scalar(beaten) is None:
        session.add(Worker(id=worker_id, started_at=at, **told))
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


def serving(session: Session, lane: Lane, within_s: float) -> list[Worker]:
    """The living workers that take jobs of a lane; one of an older version names none and takes all."""
    return [worker for worker in alive(session, within_s) if worker.lanes is None or lane in worker.lanes]
