"""What leaves the house of a version: every image with what the machine and people said; numbers to draw."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from siftline.store.models import Image, PurifiedItem
from siftline.store.selection import effective_verdict

ROWS_AT_ONCE = 1000
IMAGE = (Image.id, Image.name, Image.sha256, Image.bytes, Image.width, Image.height, Image.format)
HUMAN = (Image.review, Image.reviewed_by, Image.reviewed_at)
MACHINE = (
    PurifiedItem.rank,
    PurifiedItem.score,
    PurifiedItem.p_anomalous,
    PurifiedItem.interval_lo,
    PurifiedItem.interval_hi,
    PurifiedItem.confidence,
    PurifiedItem.verdict.label("machine_verdict"),
    PurifiedItem.needs_review,
    PurifiedItem.cluster,
    PurifiedItem.signals,
    PurifiedItem.near_duplicates,
)
HEAT = (PurifiedItem.heat_rows, PurifiedItem.heat_cols, PurifiedItem.heat)


def rows(session: Session, purification_id: UUID, *, with_heat: bool = False) -> Iterator[Row[Any]]:
    """All images of a version by rank, with their `effective` verdict: one statement, one moment in time."""
    columns = (*IMAGE, *HUMAN, *MACHINE, *(HEAT if with_heat else ()))
    query = (
        select(*columns, effective_verdict().label("effective"))
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == purification_id)
        .order_by(PurifiedItem.rank)
    )
    return iter(session.execute(query.execution_options(yield_per=ROWS_AT_ONCE)))


def signal_names(session: Session, purification_id: UUID) -> tuple[str, ...]:
    """The same for all images of a version."""
    signals = session.scalar(
        select(PurifiedItem.signals).where(PurifiedItem.purification_id == purification_id).limit(1)
    )
    return tuple(sorted(signals or ()))


def numbers(session: Session, purification_id: UUID) -> Iterator[Row[Any]]:
    """What is drawn of a version: its scores, probabilities, verdicts and signals, by rank."""
    item = PurifiedItem
    columns = (item.score, item.p_anomalous, item.interval_lo, item.interval_hi, item.verdict, item.signals)
    query = select(*columns).where(item.purification_id == purification_id).order_by(item.rank)
    return iter(session.execute(query.execution_options(yield_per=10 * ROWS_AT_ONCE)))


def top(session: Session, purification_id: UUID, limit: int) -> Sequence[Row[PurifiedItem, Image]]:
    """The most suspect, with their heat."""
    return session.execute(
        select(PurifiedItem, Image)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == purification_id)
        .order_by(PurifiedItem.rank)
        .limit(limit)
    ).all()
