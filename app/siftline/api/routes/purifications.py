"""Purifications: asked for, waited for, read, compared."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Query, Request, Response
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.access.deps import PartsDep, Reading
from siftline.api import accept
from siftline.api.idempotency import Answer, Key
from siftline.api.parameters import Cursor, Limit, Selected, Version, VersionNumber
from siftline.api.problems import raises
from siftline.api.waiting import until_ready
from siftline.domain.errors import InsufficientStorage, PurificationNotReady, Unprocessable
from siftline.services import purification
from siftline.services.estimates import DoesNotFit
from siftline.store.session import reading

router = APIRouter(tags=["purifications"])


@router.post(
    "/datasets/{dataset_id}/purifications",
    status_code=202,
    response_model=schemas.Job,
    responses=raises(Unprocessable, DoesNotFit, InsufficientStorage),
)
def request_purification(
    request: Request,
    parts: PartsDep,
    dataset_id: UUID,
    options: Annotated[schemas.PurifyOptions, Body()] = schemas.PurifyOptions(),  # noqa: B008 - frozen
    key: Key = None,
) -> Response:
    """Run again; options that are not named stay the dataset's. Each run becomes an immutable version."""

    def work(session: Session) -> Answer:
        job = purification.request(session, dataset_id, options, bell=parts.bell, settings=parts.settings)
        return Answer(202, job.model_dump(mode="json"), {"Location": f"/jobs/{job.id}"})

    fingerprint = accept.fingerprint_of(options.model_dump_json(exclude_unset=True).encode())
    once = accept.once(parts, request, key, fingerprint)
    return (once.earlier() or once.do(work)).response()


@router.get(
    "/datasets/{dataset_id}/purified",
    response_model=schemas.Purified,
    responses=raises(PurificationNotReady, Unprocessable),
)
async def get_purified(
    request: Request,
    parts: PartsDep,
    dataset_id: UUID,
    wanted: Selected,
    *,
    version: Version = None,
    order: Annotated[
        purification.Order, Query(description="Most suspect first, or the least certain verdict first.")
    ] = "rank",
    wait: Annotated[float, Query(ge=0, le=3600, description="Seconds to wait for the first version.")] = 0,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """The ranked split, most suspect first; 409 `purification-not-ready` before there is one."""

    def look() -> Response:
        with reading(parts.sessions) as session:
            page = purification.purified(
                session, dataset_id, wanted, version=version, order=order, after=cursor, limit=limit
            )
        return Response(page.model_dump_json(), media_type="application/json")

    return await until_ready(request, look, min(wait, parts.settings.max_wait_s))


@router.get("/datasets/{dataset_id}/purified/histogram", responses=raises(PurificationNotReady))
def get_histogram(
    session: Reading,
    dataset_id: UUID,
    version: Version = None,
    bins: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> schemas.Histogram:
    return purification.histogram(session, dataset_id, version=version, bins=bins)


@router.get("/datasets/{dataset_id}/purified/diff")
def get_diff(
    session: Reading,
    dataset_id: UUID,
    before: Annotated[VersionNumber, Query(alias="from")],
    after: Annotated[VersionNumber, Query(alias="to")],
) -> schemas.Diff:
    """Newly suspect, newly cleared and added images between two versions."""
    return purification.diff(session, dataset_id, before=before, after=after)
