"""Purification versions: immutable, numbered per dataset, read by rank."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Row, Select, case, cast, func, insert, select, tuple_
from sqlalchemy.orm import Session, aliased, defer
from uuid_utils.compat import uuid7

from siftline.domain.errors import NotFound
from siftline.store.models import Dataset, Image, Purification, PurifiedItem
from siftline.store.selection import Filter, items_of

ROWS_PER_INSERT = 1000
WITHOUT_BULK = (defer(PurifiedItem.heat, raiseload=True), defer(PurifiedItem.explanation, raiseload=True))


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What a run found out about the whole dataset; every field is stored as JSON."""

    options: dict[str, Any]
    backbone: dict[str, Any]
    contamination: dict[str, Any]
    cut: dict[str, Any]
    counts: dict[str, Any]
    heat_scale: dict[str, Any]
    stage_seconds: dict[str, Any]
    review_revision: int = 0
    """Human decisions up to this one were heeded."""
    based_on: int | None = None
    """The version whose signals were cut anew."""


@dataclass(frozen=True, slots=True)
class NewItem:
    """What a run found about one image. `heat` is rows × cols bytes on the version's scale, row by row."""

    image_id: UUID
    rank: int
    score: float
    p_anomalous: float
    interval: tuple[float, float]
    verdict: str
    needs_review: bool
    confidence: float
    signals: dict[str, float]
    near_duplicates: Sequence[UUID]
    heat_rows: int
    heat_cols: int
    heat: bytes
    cluster: int | None = None
    """Images that look alike where they are odd share a number. Only suspects show it."""
    explanation: dict[str, Any] | None = None
    """`schemas.Explanation` without `image_id` and `version`, which the row has."""

    def __post_init__(self) -> None:
        if len(self.heat) != self.heat_rows * self.heat_cols:
            raise ValueError(
                f"heat of {self.heat_rows} × {self.heat_cols} cannot have {len(self.heat)} bytes"
            )


def write_version(
    session: Session,
    *,
    dataset_id: UUID,
    job_id: UUID,
    created_at: datetime,
    version: NewVersion,
    items: Iterable[NewItem],
) -> int:
    """Store a run's result as the dataset's next version and return its number.

    Call it in the transaction that marks the job as succeeded. Raises NotFound when the dataset is gone, and
    IntegrityError when the job has written a version before or a rank or image comes twice.
    """
    row = new_version(session, dataset_id, job_id, created_at, version)
    rest = iter(items)
    while chunk := [_item_row(row.id, item) for item in islice(rest, ROWS_PER_INSERT)]:
        session.execute(insert(PurifiedItem), chunk)
    return row.version


def new_version(
    session: Session, dataset_id: UUID, job_id: UUID, created_at: datetime, version: NewVersion
) -> Purification:
    """The row of the dataset's next version, without items. Raises NotFound when the dataset is gone."""
    # The lock makes the next number safe: two runs of one dataset that end together take turns.
    if session.scalar(select(Dataset.id).where(Dataset.id == dataset_id).with_for_update()) is None:
        raise NotFound(f"There is no dataset {dataset_id}.")
    last = session.scalar(select(func.max(Purification.version)).where(Purification.dataset_id == dataset_id))
    row = Purification(
        id=uuid7(),
        dataset_id=dataset_id,
        job_id=job_id,
        version=(last or 0) + 1,
        created_at=created_at,
        **{field.name: getattr(version, field.name) for field in fields(version)},
    )
    session.add(row)
    session.flush()
    return row


def _item_row(purification_id: UUID, item: NewItem) -> dict[str, Any]:
    return {
        "purification_id": purification_id,
        "rank": item.rank,
        "image_id": item.image_id,
        "score": item.score,
        "p_anomalous": item.p_anomalous,
        "interval_lo": item.interval[0],
        "interval_hi": item.interval[1],
        "verdict": item.verdict,
        "needs_review": item.needs_review,
        "confidence": item.confidence,
        "signals": item.signals,
        "near_duplicates": [str(image_id) for image_id in item.near_duplicates],
        "cluster": item.cluster if item.verdict == "suspect" else None,
        # Kept for clean images too: a later cut may make suspects of them.
        "explanation": item.explanation and item.explanation | {"cluster": item.cluster},
        "heat_rows": item.heat_rows,
        "heat_cols": item.heat_cols,
        "heat": item.heat,
    }


def latest(session: Session, dataset_id: UUID) -> Purification | None:
    return session.scalar(
        select(Purification)
        .where(Purification.dataset_id == dataset_id)
        .order_by(Purification.version.desc())
        .limit(1)
    )


def numbered(session: Session, dataset_id: UUID, version: int) -> Purification:
    """Raises NotFound."""
    row = session.scalar(
        select(Purification).where(Purification.dataset_id == dataset_id, Purification.version == version)
    )
    if row is None:
        raise NotFound(f"The dataset has no purification version {version}.")
    return row


def image_ids(session: Session, purification_id: UUID) -> Sequence[UUID]:
    """The images that a version has ranked, in no order."""
    return session.scalars(
        select(PurifiedItem.image_id).where(PurifiedItem.purification_id == purification_id)
    ).all()


def latest_versions(session: Session, dataset_ids: Sequence[UUID]) -> dict[UUID, int]:
    """The newest version number of each dataset that has one."""
    rows = session.execute(
        select(Purification.dataset_id, func.max(Purification.version))
        .where(Purification.dataset_id.in_(dataset_ids))
        .group_by(Purification.dataset_id)
    )
    return dict(rows.all())


def ranked(
    session: Session, purification_id: UUID, wanted: Filter, *, after_rank: int, limit: int
) -> Sequence[Row[PurifiedItem, Image]]:
    """At most `limit` items below `after_rank`, with their images, without heat and explanation."""
    query = _items(purification_id, wanted).where(PurifiedItem.rank > after_rank)
    return session.execute(query.order_by(PurifiedItem.rank).limit(limit)).all()


def disputed(
    session: Session, purification_id: UUID, wanted: Filter, *, after: tuple[float, int], limit: int
) -> Sequence[Row[PurifiedItem, Image]]:
    """The same, the least certain verdict first, behind the item of this confidence and rank."""
    place = tuple_(PurifiedItem.confidence, PurifiedItem.rank)
    query = _items(purification_id, wanted).where(place > tuple_(*after))
    return session.execute(query.order_by(PurifiedItem.confidence, PurifiedItem.rank).limit(limit)).all()


def _items(purification_id: UUID, wanted: Filter) -> Select[PurifiedItem, Image]:
    return (
        select(PurifiedItem, Image)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(*items_of(purification_id, wanted))
        .options(*WITHOUT_BULK)
    )


def item_of(session: Session, purification_id: UUID, image_id: UUID) -> PurifiedItem | None:
    """One image's row in one version, heat map included."""
    return session.scalar(
        select(PurifiedItem).where(
            PurifiedItem.purification_id == purification_id, PurifiedItem.image_id == image_id
        )
    )


def score_range(session: Session, purification_id: UUID) -> tuple[float, ...]:
    """The least and the largest score of a version; nothing of a version of no images."""
    query = select(func.min(PurifiedItem.score), func.max(PurifiedItem.score))
    found = session.execute(query.where(PurifiedItem.purification_id == purification_id)).one()
    return tuple(score for score in found if score is not None)


def score_counts(
    session: Session, purification_id: UUID, *, start: float, step: float, steps: int
) -> list[int]:
    """How many scores of a version lie in each of so many steps from `start` on; the last takes its end in.

    Counted where they are: to fetch a million took 10 s.
    """
    place = (PurifiedItem.score - start) / step
    # SQLite may be built without `floor`, and PostgreSQL's cast rounds.
    below = func.floor(place) if session.get_bind().dialect.name == "postgresql" else cast(place, Integer)
    which = case((place >= steps, steps - 1), else_=cast(below, Integer)).label("which")
    query = select(which, func.count()).where(PurifiedItem.purification_id == purification_id)
    found: dict[int, int] = dict(session.execute(query.group_by("which")).all())
    return [found.get(number, 0) for number in range(steps)]


def moved(session: Session, before: UUID, after: UUID, *, verdict: str) -> Sequence[UUID]:
    """Images whose verdict became `verdict` from one purification to another, most suspect first."""
    old = aliased(PurifiedItem)
    return session.scalars(
        select(PurifiedItem.image_id)
        .join(old, (old.image_id == PurifiedItem.image_id) & (old.purification_id == before))
        .where(
            PurifiedItem.purification_id == after,
            PurifiedItem.verdict == verdict,
            old.verdict != verdict,
        )
        .order_by(PurifiedItem.rank)
    ).all()


def added(session: Session, before: UUID, after: UUID, *, verdict: str | None = None) -> Sequence[UUID]:
    """Images that only the later purification has ranked, most suspect first; `verdict`: only those."""
    known = select(PurifiedItem.image_id).where(PurifiedItem.purification_id == before)
    wanted = [] if verdict is None else [PurifiedItem.verdict == verdict]
    return session.scalars(
        select(PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == after, PurifiedItem.image_id.not_in(known), *wanted)
        .order_by(PurifiedItem.rank)
    ).all()
