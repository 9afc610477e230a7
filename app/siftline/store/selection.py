"""Which images of a purification: one set of conditions for lists, bulk decisions, exports and the gallery.

They speak of `PurifiedItem` beside `Image`; whoever uses them joins the two for one purification.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, case, or_, select

from siftline.store.models import Image, Purification, PurifiedItem


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is not None must hold."""

    ranked: bool | None = None
    """Whether the purification knows the image; for lists that outer-join it."""
    verdict: str | None = None
    """The machine's: clean or suspect."""
    effective: str | None = None
    """The verdict that counts: the machine's, or what a person said instead."""
    needs_review: bool | None = None
    review: str | None = None
    """keep, reject, any (somebody said something) or none."""
    min_score: float | None = None
    max_score: float | None = None
    cluster: int | None = None
    name_contains: str | None = None


def conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """For `where(*conditions(wanted))`."""
    if wanted.ranked is not None:
        yield PurifiedItem.image_id.is_not(None) if wanted.ranked else PurifiedItem.image_id.is_(None)
    if wanted.verdict is not None:
        yield PurifiedItem.verdict == wanted.verdict
    if wanted.effective is not None:
        yield effective_verdict() == wanted.effective
    if wanted.needs_review is not None:
        yield PurifiedItem.needs_review.is_(wanted.needs_review)
    if wanted.review is not None:
        yield _review_is(wanted.review)
    if wanted.min_score is not None:
        yield PurifiedItem.score >= wanted.min_score
    if wanted.max_score is not None:
        yield PurifiedItem.score <= wanted.max_score
    if wanted.cluster is not None:
        yield PurifiedItem.cluster == wanted.cluster
    if wanted.name_contains:
        yield Image.name.icontains(wanted.name_contains, autoescape=True)


def items_of(purification_id: UUID, wanted: Filter) -> Iterator[ColumnElement[bool]]:
    """`conditions` for the items of one purification."""
    yield PurifiedItem.purification_id == purification_id
    if wanted.review not in (None, "none"):
        # Few are decided. Told this way, SQLite looks these up and does not walk a million items by rank.
        of_version = select(Purification.dataset_id).where(Purification.id == purification_id)
        mine = Image.dataset_id == of_version.scalar_subquery()
        yield PurifiedItem.image_id.in_(select(Image.id).where(mine, _review_is(wanted.review)))
    yield from conditions(wanted)


def effective_verdict() -> ColumnElement[str]:
    """`domain.review.effective_verdict` in SQL."""
    return case(
        (Image.review == "keep", "clean"), (Image.review == "reject", "suspect"), else_=PurifiedItem.verdict
    )


def _review_is(word: str) -> ColumnElement[bool]:
    # Not "is not null": the index on (dataset_id, review) serves equality on both databases.
    if word == "any":
        return or_(Image.review == "keep", Image.review == "reject")
    return Image.review.is_(None) if word == "none" else Image.review == word
