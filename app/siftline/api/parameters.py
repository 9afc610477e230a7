"""Query parameters that several lists share, bounded so that no database is asked what it cannot hold."""

from typing import Annotated

from fastapi import Depends, Query

from siftline import schemas
from siftline.store.selection import Filter

Cursor = Annotated[
    str | None,
    Query(max_length=200, pattern=r"^[A-Za-z0-9_-]+$", description="`next_cursor` of the page before."),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Items on a page.")]
Version = Annotated[
    int | None, Query(ge=1, le=2**31 - 1, description="A version's number; the newest if unset.")
]
VersionNumber = Annotated[int, Query(ge=1, le=2**31 - 1)]
# PostgreSQL's text cannot hold NUL.
NameContains = Annotated[
    str | None, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="Part of the name.")
]
Score = Annotated[float | None, Query(allow_inf_nan=False, description="Lowest score.")]


def selected(
    *,
    verdict: Annotated[schemas.Verdict | None, Query(description="The machine's.")] = None,
    effective: Annotated[
        schemas.Verdict | None,
        Query(description="The verdict that counts: a person's, or else the machine's."),
    ] = None,
    needs_review: bool | None = None,
    review: schemas.ReviewFilter | None = None,
    cluster: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    min_score: Score = None,
    max_score: Annotated[float | None, Query(allow_inf_nan=False, description="Highest score.")] = None,
    q: NameContains = None,
) -> Filter:
    """Which items of a version are wanted."""
    return Filter(
        verdict=verdict,
        effective=effective,
        needs_review=needs_review,
        review=review,
        cluster=cluster,
        min_score=min_score,
        max_score=max_score,
        name_contains=q,
    )


Selected = Annotated[Filter, Depends(selected)]
