"""What people decided: batches that are only ever added, and what stands now on each image.

`Image.review_revision` names the batch whose decision stands. Taking a batch back is a batch of its own; its
decisions bring the earlier numbers back, with whoever decided then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Row, ScalarSelect, exists, func, insert, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased
from uuid_utils.compat import uuid7

from siftline.domain.errors import NotFound
from siftline.store.models import Dataset, Image, PurifiedItem, ReviewBatch, ReviewDecision
from siftline.store.selection import Filter, conditions
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
        .where(PurifiedItem.purification_id == purification_id, *conditions(wanted))
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


def get(session: Session, dataset_id: UUID, batch_id: UUID) -> ReviewBatch:
    """Raises NotFound."""
    batch = session.get(ReviewBatch, batch_id)
    if batch is None or batch.dataset_id != dataset_id:
        raise NotFound(f"The dataset has no batch of decisions {batch_id}.")
    return batch


def newest_to_undo(session: Session, dataset_id: UUID, by: str) -> ReviewBatch | None:
    """Somebody's newest batch that decided something and was not taken back."""
    return session.scalar(
        select(ReviewBatch)
        .where(
            ReviewBatch.dataset_id == dataset_id,
            ReviewBatch.by == by,
            ReviewBatch.undoes.is_(None),
            _undoing(ReviewBatch).is_(None),
        )
        .order_by(ReviewBatch.revision.desc())
        .limit(1)
    )


def undone_by(session: Session, batch: ReviewBatch) -> UUID | None:
    """The batch that took this one back, unless it was taken back itself."""
    return session.scalar(select(_undoing(ReviewBatch)).where(ReviewBatch.id == batch.id))


def _undoing(batch: type[ReviewBatch]) -> ScalarSelect[UUID]:
    undoing, redoing = aliased(ReviewBatch), aliased(ReviewBatch)
    # What takes a batch back is younger: the index on (dataset_id, revision) leaves few to look at.
    redone = exists().where(
        redoing.dataset_id == batch.dataset_id,
        redoing.revision > undoing.revision,
        redoing.undoes == undoing.id,
    )
    later = (undoing.dataset_id == batch.dataset_id) & (undoing.revision > batch.revision)
    return (
        select(undoing.id)
        .where(later, undoing.undoes == batch.id, ~redone)
        .correlate(batch)
        .limit(1)
        .scalar_subquery()
    )


def page(
    session: Session, dataset_id: UUID, *, before: int | None, limit: int
) -> Sequence[Row[ReviewBatch, UUID | None]]:
    """(batch, id of the batch that took it back), newest first."""
    query = (
        select(ReviewBatch, _undoing(ReviewBatch))
        .where(ReviewBatch.dataset_id == dataset_id)
        .order_by(ReviewBatch.revision.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ReviewBatch.revision < before)
    return session.execute(query).all()


def counts(session: Session, dataset_id: UUID, purification_id: UUID) -> dict[tuple[str, str], int]:
    """(what a person said, the machine's verdict) -> images of the version; only what somebody decided."""
    rows = session.execute(
        select(Image.review, PurifiedItem.verdict, func.count())
        .join(
            PurifiedItem,
            (PurifiedItem.image_id == Image.id) & (PurifiedItem.purification_id == purification_id),
        )
        .where(Image.dataset_id == dataset_id, *conditions(Filter(review="any")))
        .group_by(Image.review, PurifiedItem.verdict)
    )
    return {(str(review), verdict): count for review, verdict, count in rows}


def by_person(session: Session, dataset_id: UUID) -> Sequence[tuple[str, int, int]]:
    """(who, images kept, images rejected) of the decisions that stand, the busiest first."""
    rows = session.execute(
        select(Image.reviewed_by, Image.review, func.count())
        .where(Image.dataset_id == dataset_id, *conditions(Filter(review="any")))
        .group_by(Image.reviewed_by, Image.review)
    )
    kept: dict[str, int] = {}
    rejected: dict[str, int] = {}
    for who, word, count in rows:
        (kept if word == "keep" else rejected)[str(who)] = count
    everybody = [(who, kept.get(who, 0), rejected.get(who, 0)) for who in kept.keys() | rejected.keys()]
    return sorted(everybody, key=lambda one: (-one[1] - one[2], one[0]))
