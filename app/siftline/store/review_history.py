"""What was decided so far: batch by batch, image by image, person by person."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Row, ScalarSelect, exists, func, select
from sqlalchemy.orm import Session, aliased

from siftline.domain.errors import NotFound
from siftline.store.models import Image, PurifiedItem, ReviewBatch
from siftline.store.selection import Filter, conditions


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
            ReviewBatch.images > 0,
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
