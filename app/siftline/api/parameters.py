"""Query parameters that several lists share, bounded so that no database is asked what it cannot hold."""

from typing import Annotated

from fastapi import Query

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
Score = Annotated[float | None, Query(allow_inf_nan=False, description="Lowest score of the newest version.")]
