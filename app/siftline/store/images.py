"""Accepted images: added once per content, read page by page."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound
from siftline.store.models import Dataset, Image, PurifiedItem
from siftline.store.selection import Filter, conditions

ROWS_PER_INSERT = 500
SAMPLED_FOR_TONE = 2000


def add_new(session: Session, rows: Sequence[dict[str, Any]]) -> set[UUID]:
    """Insert the rows whose (dataset_id, sha256) is new; returns the ids that went in.

    Two uploads to one dataset may race: the unique constraint decides, and the later one's rows are left out.
    """
    # One order for everybody, or two transactions could wait for each other's rows.
    rest = iter(sorted(rows, key=lambda row: str(row["sha256"])))
    inserted: set[UUID] = set()
    while chunk := list(islice(rest, ROWS_PER_INSERT)):
        inserted.update(session.scalars(_insert_unless_known(session), chunk))
    for dataset_id, more in Counter(row["dataset_id"] for row in rows if row["id"] in inserted).items():
        counted = update(Dataset).where(Dataset.id == dataset_id)
        session.execute(counted.values(images=Dataset.images + more))
    return inserted


def _insert_unless_known(session: Session) -> Any:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(Image).on_conflict_do_nothing(index_elements=["dataset_id", "sha256"])
    return statement.returning(Image.id)


def get(session: Session, image_id: UUID) -> Image:
    """Raises NotFound."""
    image = session.get(Image, image_id)
    if image is None:
        raise NotFound(f"There is no image {image_id}.")
    return image


def of_dataset(session: Session, dataset_id: UUID) -> Iterator[Image]:
    """All images of a dataset in the order they came, streamed."""
    query = select(Image).where(Image.dataset_id == dataset_id).order_by(Image.id)
    return iter(session.scalars(query.execution_options(yield_per=1000)))


def names(session: Session, image_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Of a page of images; those that are gone are left out."""
    return dict(session.execute(select(Image.id, Image.name).where(Image.id.in_(image_ids))).all())


def page(
    session: Session,
    dataset_id: UUID,
    purification_id: UUID | None,
    wanted: Filter,
    *,
    after: UUID | None,
    limit: int,
) -> Sequence[Row[Image, float, float, str]]:
    """Rows of (Image, score, p_anomalous, verdict) in upload order; the last three are None if unranked."""
    opinion = (PurifiedItem.image_id == Image.id) & (PurifiedItem.purification_id == purification_id)
    beyond = []
    if after is not None:
        # Said of both sides: PostgreSQL merges them, and read all opinions up to the page (6 s, measured).
        opinion &= PurifiedItem.image_id > after
        beyond = [Image.id > after]
    query = (
        select(Image, PurifiedItem.score, PurifiedItem.p_anomalous, PurifiedItem.verdict)
        .outerjoin(PurifiedItem, opinion)
        .where(Image.dataset_id == dataset_id, *beyond, *conditions(wanted))
        .order_by(Image.id)
        .limit(limit)
    )
    return session.execute(query).all()


def sample_ranges(session: Session, dataset_id: UUID) -> Sequence[tuple[float, float, bool]]:
    """(low, high, is_float) of the dataset's images of more than eight bits: the first 2,000 say enough."""
    rows = session.execute(
        select(Image.sample_low, Image.sample_high, Image.sample_is_float)
        .where(Image.dataset_id == dataset_id, Image.sample_low.is_not(None))
        .order_by(Image.id)
        .limit(SAMPLED_FOR_TONE)
    )
    return [(float(low or 0), float(high or 0), bool(is_float)) for low, high, is_float in rows]


def known(session: Session, dataset_id: UUID, hashes: Collection[str]) -> set[str]:
    """Those of the SHA-256 that an image of the dataset has."""
    query = select(Image.sha256).where(Image.dataset_id == dataset_id, Image.sha256.in_(hashes))
    return set(session.scalars(query))


def known_anywhere(session: Session, hashes: Collection[str]) -> set[str]:
    """Those of the SHA-256 that an image of any dataset of any workspace has: for caches that all share."""
    content = Image.__table__.c.sha256  # of the table: entities keep to the session's workspace
    return set(session.scalars(select(content).where(content.in_(hashes))))


def sizes(session: Session, dataset_id: UUID) -> Sequence[tuple[int, int, int]]:
    """(width, height, how many images) of a dataset."""
    query = select(Image.width, Image.height, func.count()).where(Image.dataset_id == dataset_id)
    found = session.execute(query.group_by(Image.width, Image.height))
    return [(width, height, count) for width, height, count in found]
