"""What people decided: batches that are only ever added, and what stands now on each image.

`Image.review_revision` names the batch whose decision stands. Taking a batch back is a batch of its own; its
decisions bring the earlier numbers back, with whoever decided then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ScalarSelect, func, insert, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from uuid_utils.compat import uuid7

from siftline.store.models import Dataset, Image, PurifiedItem, ReviewBatch, ReviewDecision
from siftline.store.selection import Filter, items_of
from siftline.store.session import now

T = TypeVar("T")
IDS_PER_QUERY = 1000
COLUMNS = ("batch_id", "image_id", "decision", "previous", "revision", "previous_revision")
CLEAR = "clear"


@dataclass(frozen=True, slots=True)
class Overruled:
    """What somebody else decided after the revision a decision was based on."""

    image_id: UUID
    decision: str
    by: str
    at: datetime
    revision: int


def open_batch(
    session: Session, dataset: Dataset, by: str, *, decision: str | None, undoes: UUID | None = None
) -> ReviewBatch:
    """A batch without decisions yet. `dataset` must be locked: the lock numbers the batches one by one."""
    dataset.review_revision += 1
    batch = ReviewBatch(
        id=uuid7(),
        dataset_id=dataset.id,
        revision=dataset.review_revision,
        by=by,
        at=now(session),
        images=0,
        decision=decision,
        undoes=undoes,
    )
    session.add(batch)
    session.flush()
    return batch


def unknown(session: Session, dataset_id: UUID, image_ids: Sequence[UUID]) -> list[UUID]:
    """Those that are no images of the dataset, in the order given."""
    known: set[UUID] = set()
    for start in range(0, len(image_ids), IDS_PER_QUERY):
        part = image_ids[start : start + IDS_PER_QUERY]
        known.update(
            session.scalars(select(Image.id).where(Image.dataset_id == dataset_id, Image.id.in_(part)))
        )
    return [image_id for image_id in image_ids if image_id not in known]


def decide_each(session: Session, batch: ReviewBatch, decisions: Mapping[UUID, str]) -> None:
    """Add the decisions of images that are known, and let them stand."""
    ids = list(decisions)
    for start in range(0, len(ids), IDS_PER_QUERY):
        part = ids[start : start + IDS_PER_QUERY]
        before = session.execute(
            select(Image.id, Image.review, Image.review_revision).where(Image.id.in_(part))
        )
        rows = [
            {
                "batch_id": batch.id,
                "image_id": image_id,
                "decision": decisions[image_id],
                "previous": review,
                "revision": batch.revision,
                "previous_revision": revision,
            }
            for image_id, review, revision in before
        ]
        session.execute(insert(ReviewDecision), rows)
    _let_stand(session, batch)


def decide_all(
    session: Session, batch: ReviewBatch, purification_id: UUID, wanted: Filter, decision: str
) -> None:
    """One decision for all images that fit, and let it stand; no image leaves the database."""
    decided = select(
        literal(batch.id, ReviewDecision.batch_id.type),
        Image.id,
        literal(decision),
        Image.review,
        literal(batch.revision),
        Image.review_revision,
    )
    session.execute(insert(ReviewDecision).from_select(COLUMNS, _fitting(decided, purification_id, wanted)))
    _let_stand(session, batch)


def take_back(session: Session, batch: ReviewBatch, undone: ReviewBatch) -> None:
    """Bring back what stood before `undone`, on every image on which its word still stands."""
    restored = (
        select(
            literal(batch.id, ReviewDecision.batch_id.type),
            ReviewDecision.image_id,
            func.coalesce(ReviewDecision.previous, CLEAR),
            Image.review,
            ReviewDecision.previous_revision,
            Image.review_revision,
        )
        .join(Image, Image.id == ReviewDecision.image_id)
        .where(ReviewDecision.batch_id == undone.id, Image.review_revision == ReviewDecision.revision)
    )
    session.execute(insert(ReviewDecision).from_select(COLUMNS, restored))
    _let_stand(session, batch)


def _fitting(query: Any, purification_id: UUID, wanted: Filter) -> Any:
    return (
        query.select_from(PurifiedItem)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(*items_of(purification_id, wanted))
    )


def _let_stand(session: Session, batch: ReviewBatch) -> None:
    """Copy the batch's decisions to its images, signed by whoever made the ones that stand from now on."""
    session.execute(
        update(Image)
        .where(Image.id == ReviewDecision.image_id, ReviewDecision.batch_id == batch.id)
        .values(
            review=func.nullif(ReviewDecision.decision, CLEAR),
            reviewed_by=_of_standing(batch, ReviewBatch.by),
            reviewed_at=_of_standing(batch, ReviewBatch.at),
            review_revision=ReviewDecision.revision,
        )
        .execution_options(synchronize_session=False)
    )
    made = select(func.count()).where(ReviewDecision.batch_id == batch.id)
    batch.images = session.scalar(made) or 0


def _of_standing(batch: ReviewBatch, column: InstrumentedAttribute[T]) -> ScalarSelect[T]:
    """Who or when; nothing for an image that nobody has decided any more."""
    standing = aliased(ReviewBatch)
    return (
        select(getattr(standing, column.key))
        .where(
            standing.dataset_id == batch.dataset_id,
            standing.revision == ReviewDecision.revision,
            ReviewDecision.decision != CLEAR,
        )
        .correlate(ReviewDecision)
        .scalar_subquery()
    )


def skipped(session: Session, batch: ReviewBatch, undone: ReviewBatch, *, limit: int) -> Sequence[UUID]:
    """The first of the images that `batch`, which took `undone` back, had to leave alone."""
    restored = select(ReviewDecision.image_id).where(ReviewDecision.batch_id == batch.id)
    return session.scalars(
        select(ReviewDecision.image_id)
        .where(ReviewDecision.batch_id == undone.id, ReviewDecision.image_id.not_in(restored))
        .order_by(ReviewDecision.image_id)
        .limit(limit)
    ).all()


def overruled_of(
    session: Session, dataset_id: UUID, image_ids: Sequence[UUID], *, since: int, by: str, limit: int
) -> list[Overruled]:
    """Decisions after revision `since` that somebody other than `by` made on one of the images."""
    found: list[Overruled] = []
    for start in range(0, len(image_ids), IDS_PER_QUERY):
        part = image_ids[start : start + IDS_PER_QUERY]
        query = _decided_since(dataset_id, since, by).where(ReviewDecision.image_id.in_(part))
        found += _overruled(session, query.limit(limit))
    return found[:limit]


def overruled_in(
    session: Session,
    dataset_id: UUID,
    purification_id: UUID,
    wanted: Filter,
    *,
    since: int,
    by: str,
    limit: int,
) -> list[Overruled]:
    """The same on any of the images that fit."""
    concerned = _fitting(select(PurifiedItem.image_id), purification_id, wanted)
    query = _decided_since(dataset_id, since, by).where(ReviewDecision.image_id.in_(concerned))
    return _overruled(session, query.limit(limit))


def _decided_since(dataset_id: UUID, since: int, by: str) -> Any:
    return (
        select(
            ReviewDecision.image_id,
            ReviewDecision.decision,
            ReviewBatch.by,
            ReviewBatch.at,
            ReviewBatch.revision,
        )
        .join(ReviewBatch, ReviewBatch.id == ReviewDecision.batch_id)
        .where(ReviewBatch.dataset_id == dataset_id, ReviewBatch.revision > since, ReviewBatch.by != by)
        .order_by(ReviewBatch.revision.desc(), ReviewDecision.image_id)
    )


def _overruled(session: Session, query: Any) -> list[Overruled]:
    return [Overruled(*row) for row in session.execute(query)]
