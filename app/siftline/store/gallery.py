"""What the review page reads: any stretch of a ranked list of 50,000 images, and how it was decided.

Two steps: the ranks that fit are read as bare integers (20 ms for 50,000), folded and cut by the service, and
only the stretch that is looked at is read whole. So a page at offset 40,000 costs what the first one costs.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Row, String, cast, func, select
from sqlalchemy.orm import Session

from siftline.store.models import Dataset, Image, Purification, PurifiedItem, ReviewBatch, ReviewDecision
from siftline.store.purifications import WITHOUT_BULK
from siftline.store.selection import Filter, conditions, items_of

Order = Literal["suspect", "clean", "disputed", "recent"]

_ORDERS: dict[Order, tuple[ColumnElement[Any], ...]] = {
    "suspect": (PurifiedItem.rank.asc(),),
    "clean": (PurifiedItem.rank.desc(),),
    "disputed": (PurifiedItem.confidence.asc(), PurifiedItem.rank.asc()),
    "recent": (Image.review_revision.desc(), PurifiedItem.rank.asc()),
}


def ranks(session: Session, purification_id: UUID, wanted: Filter, order: Order) -> Sequence[int]:
    """The ranks of all items that fit, in the order they are shown."""
    query = select(PurifiedItem.rank).where(*items_of(purification_id, wanted)).order_by(*_ORDERS[order])
    if wanted != Filter() or order == "recent":  # the join costs as much as all the rest
        query = query.join(Image, Image.id == PurifiedItem.image_id)
    return session.scalars(query).all()


def rows(
    session: Session, purification_id: UUID, wanted: Sequence[int]
) -> Sequence[Row[PurifiedItem, Image]]:
    """The items of these ranks with their images, in the order of `wanted`."""
    query = (
        select(PurifiedItem, Image)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == purification_id, PurifiedItem.rank.in_(wanted))
        .options(*WITHOUT_BULK)
    )
    by_rank = {row[0].rank: row for row in session.execute(query)}
    return [by_rank[rank] for rank in wanted if rank in by_rank]


def near_duplicates(session: Session, purification_id: UUID) -> Sequence[Row[int, UUID, list[str]]]:
    """(rank, image id, ids of its near-duplicates) of every item that has any, most suspect first."""
    return session.execute(
        select(PurifiedItem.rank, PurifiedItem.image_id, PurifiedItem.near_duplicates)
        .where(
            PurifiedItem.purification_id == purification_id,
            cast(PurifiedItem.near_duplicates, String) != "[]",
        )
        .order_by(PurifiedItem.rank)
    ).all()


def size(session: Session, purification_id: UUID) -> int:
    """The number of ranked images."""
    last = select(func.max(PurifiedItem.rank)).where(PurifiedItem.purification_id == purification_id)
    return session.scalar(last) or 0


def rank_of(session: Session, purification_id: UUID, image_id: UUID) -> int | None:
    return session.scalar(
        select(PurifiedItem.rank).where(
            PurifiedItem.purification_id == purification_id, PurifiedItem.image_id == image_id
        )
    )


def scores(session: Session, purification_id: UUID) -> Sequence[float]:
    """The scores of a version, by rank."""
    return session.scalars(
        select(PurifiedItem.score)
        .where(PurifiedItem.purification_id == purification_id)
        .order_by(PurifiedItem.rank)
    ).all()


def decided(session: Session, dataset_id: UUID, purification_id: UUID) -> Sequence[Row[int, str | None]]:
    """(rank, what a person said) of the decided images of a version."""
    return session.execute(
        select(PurifiedItem.rank, Image.review)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(
            Image.dataset_id == dataset_id,
            PurifiedItem.purification_id == purification_id,
            *conditions(Filter(review="any")),
        )
    ).all()


def latest_of(session: Session, dataset_ids: Collection[UUID]) -> Sequence[Purification]:
    """The newest version of each dataset that has one."""
    newest = (
        select(Purification.dataset_id, func.max(Purification.version).label("version"))
        .where(Purification.dataset_id.in_(dataset_ids))
        .group_by(Purification.dataset_id)
        .subquery()
    )
    same = (Purification.dataset_id == newest.c.dataset_id) & (Purification.version == newest.c.version)
    return session.scalars(select(Purification).join(newest, same)).all()


def top(session: Session, purification_ids: Collection[UUID], most: int) -> Sequence[Row[UUID, UUID]]:
    """(purification id, image id) of the `most` most suspect images of each."""
    return session.execute(
        select(PurifiedItem.purification_id, PurifiedItem.image_id)
        .where(PurifiedItem.purification_id.in_(purification_ids), PurifiedItem.rank <= most)
        .order_by(PurifiedItem.rank)
    ).all()


def sizes(session: Session, dataset_id: UUID, most: int) -> Sequence[Row[int, int]]:
    """(width, height) of the dataset's first images."""
    return session.execute(
        select(Image.width, Image.height).where(Image.dataset_id == dataset_id).order_by(Image.id).limit(most)
    ).all()


class Clustered(NamedTuple):
    cluster: int
    rank: int
    image_id: UUID
    review: str | None


def clustered(session: Session, purification_id: UUID) -> list[Clustered]:
    """Every item that belongs to a cluster, most suspect first."""
    query = (
        select(PurifiedItem.cluster, PurifiedItem.rank, PurifiedItem.image_id, Image.review)
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == purification_id, PurifiedItem.cluster.is_not(None))
        .order_by(PurifiedItem.rank)
    )
    return [Clustered(row[0] or 0, row[1], row[2], row[3]) for row in session.execute(query)]


def versions(session: Session, dataset_id: UUID) -> Sequence[Row[int, datetime, int | None]]:
    """(number, when it was made, the version it was cut from) of every version, newest first."""
    return session.execute(
        select(Purification.version, Purification.created_at, Purification.based_on)
        .where(Purification.dataset_id == dataset_id)
        .order_by(Purification.version.desc())
    ).all()


def names(session: Session, dataset_ids: Collection[UUID]) -> dict[UUID, str]:
    return dict(session.execute(select(Dataset.id, Dataset.name).where(Dataset.id.in_(dataset_ids))).all())


def changed_since(session: Session, dataset_id: UUID, revision: int, most: int) -> Sequence[Image]:
    """Images that batches after a revision speak of, as they stand now; at most `most`."""
    spoken_of = (
        select(ReviewDecision.image_id)
        .join(ReviewBatch, ReviewBatch.id == ReviewDecision.batch_id)
        .where(ReviewBatch.dataset_id == dataset_id, ReviewBatch.revision > revision)
    )
    return session.scalars(select(Image).where(Image.id.in_(spoken_of)).limit(most)).all()


def history(session: Session, image_id: UUID) -> Sequence[Row[ReviewBatch, ReviewDecision]]:
    """Everything people ever said of an image, newest first."""
    return session.execute(
        select(ReviewBatch, ReviewDecision)
        .join(ReviewDecision, ReviewDecision.batch_id == ReviewBatch.id)
        .where(ReviewDecision.image_id == image_id)
        .order_by(ReviewBatch.revision.desc())
    ).all()
