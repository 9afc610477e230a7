"""What the page's addresses carry, bounded as in the API."""

from typing import Annotated, Literal

from fastapi import Query

from siftline import schemas
from siftline.store.selection import Filter

VersionNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
Cursor = Annotated[str | None, Query(max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Query(ge=1, le=500)]
Revision = Annotated[int, Query(ge=0, le=2**31 - 1)]


def wanted(
    *,
    verdict: schemas.Verdict | None = None,
    needs_review: bool | None = None,
    review: Literal["keep", "reject", "any", "none"] | None = None,
    min_score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    max_score: Annotated[float | None, Query(allow_inf_nan=False)] = None,
    cluster: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    name_contains: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
) -> Filter:
    """The conditions of `schemas.Selection`, from an address."""
    return Filter(
        verdict=verdict,
        needs_review=needs_review,
        review=review,
        min_score=min_score,
        max_score=max_score,
        cluster=cluster,
        name_contains=name_contains,
    )
