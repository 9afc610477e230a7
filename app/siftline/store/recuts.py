"""A version from another one's signals: read without its heat maps, copied inside the database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, case, func, insert, literal, select
from sqlalchemy.orm import Session

from siftline.store.models import Base, Dataset, Image, Purification, PurifiedItem
from siftline.store.purifications import NewVersion, new_version

SignalRow = Row[int, UUID, str, float, dict[str, Any], list[str], str | None, int]
JUDGED = ("p_anomalous", "interval_lo", "interval_hi", "verdict", "needs_review", "confidence")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is said anew of one image of a version; its rank there names it."""

    rank: int
    p_anomalous: float
    interval: tuple[float, float]
    verdict: str
    needs_review: bool
    confidence: float


def signals(session: Session, purification_id: UUID) -> Iterator[SignalRow]:
    """Rows of (rank, image_id, sha256, score, signals, near_duplicates, review, review_revision), streamed in
    the order in which they were purified. The revision is the dataset's; it is one statement, so that the
    reviews are of its moment.
    """
    query = (
        select(
            PurifiedItem.rank,
            PurifiedItem.image_id,
            Image.sha256,
            PurifiedItem.score,
            PurifiedItem.signals,
            PurifiedItem.near_duplicates,
            Image.review,
            Dataset.review_revision,
        )
        .join(Image, Image.id == PurifiedItem.image_id)
        .join(Dataset, Dataset.id == Image.dataset_id)
        .where(PurifiedItem.purification_id == purification_id)
        .order_by(Image.sha256)
    )
    return iter(session.execute(query.execution_options(yield_per=1000)))


def write_recut(
    session: Session,
    *,
    base: Purification,
    job_id: UUID,
    created_at: datetime,
    version: NewVersion,
    judgements: Sequence[Judgement],
) -> int:
    """Store a version that is `base` judged anew, and return its number. Raises as `write_version` does.

    Everything else an item has is copied by the database: 50,000 heat maps never reach this process.
    """
    row = new_version(session, base.dataset_id, job_id, created_at, version)
    new_values = [
        {
            "of_rank": judged.rank,
            "new_p_anomalous": judged.p_anomalous,
            "new_interval_lo": judged.interval[0],
            "new_interval_hi": judged.interval[1],
            "new_verdict": judged.verdict,
            "new_needs_review": judged.needs_review,
            "new_confidence": judged.confidence,
        }
        for judged in judgements
    ]
    session.connection().execute(_copy(base.id, row.id), new_values)
    return row.version


def _copy(base_id: UUID, new_id: UUID) -> Any:
    """INSERT … SELECT of one item, told from the others by `of_rank`."""
    table = Base.metadata.tables["purified_items"]
    verdict = bindparam("new_verdict", type_=table.c.verdict.type)
    # The number an image would have had as a suspect stands in its explanation, see `write_version`.
    of_all = func.coalesce(PurifiedItem.explanation["cluster"].as_integer(), table.c.cluster)
    new: dict[str, Any] = {
        "purification_id": literal(new_id, table.c.purification_id.type),
        "cluster": case((verdict == "suspect", of_all), else_=None),
    }
    new |= {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in JUDGED} | {
        "verdict": verdict
    }
    columns = [new.get(column.name, column) for column in table.c]
    one = (table.c.purification_id == base_id) & (table.c.rank == bindparam("of_rank"))
    return insert(table).from_select([column.name for column in table.c], select(*columns).where(one))
