"""Human decisions: made, taken back, listed, and what follows from them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Header, Request, Response
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.access.deps import PartsDep, Reading
from siftline.access.principal import PrincipalDep
from siftline.api import accept
from siftline.api.idempotency import Answer, Key
from siftline.api.parameters import Cursor, Limit
from siftline.api.problems import raises
from siftline.domain.errors import PreconditionFailed, PurificationNotReady, Unprocessable
from siftline.services import review

router = APIRouter(prefix="/datasets/{dataset_id}", tags=["reviews"])

IfMatch = Annotated[
    str,
    Header(
        pattern=r'^(\*|"[0-9]{1,9}")?$',
        description="The `ETag` you have seen: 412 if somebody else decided on one of the images since.",
    ),
]


def _tag(revision: int) -> dict[str, str]:
    return {"ETag": f'"{revision}"'}


def _revision(if_match: str) -> int | None:
    return None if if_match in ("", "*") else int(if_match.strip('"'))


@router.post(
    "/reviews",
    status_code=201,
    response_model=schemas.ReviewBatch,
    responses=raises(PurificationNotReady, PreconditionFailed, Unprocessable),
)
def decide(
    request: Request,
    parts: PartsDep,
    who: PrincipalDep,
    dataset_id: UUID,
    new: schemas.NewReviews,
    *,
    if_match: IfMatch = "",
    key: Key = None,
) -> Response:
    """Keep, reject or clear images, named or by a filter: all of them, or none and a problem."""

    def work(session: Session) -> Answer:
        batch = review.decide(session, dataset_id, new, by=who.name, since=_revision(if_match))
        return Answer(201, batch.model_dump(mode="json"), _tag(batch.revision))

    once = accept.once(parts, request, key, accept.fingerprint_of(new.model_dump_json().encode()))
    return (once.earlier() or once.do(work)).response()


@router.post(
    "/reviews/undo",
    status_code=201,
    response_model=schemas.UndoneReviews,
    responses=raises(review.NothingToUndo, review.AlreadyUndone),
)
def undo(
    request: Request,
    parts: PartsDep,
    who: PrincipalDep,
    dataset_id: UUID,
    which: Annotated[schemas.UndoReviews, Body()] = schemas.UndoReviews(),  # noqa: B008 - frozen
    *,
    key: Key = None,
) -> Response:
    """Take a batch back, by default your own newest; to do it again, take that back."""

    def work(session: Session) -> Answer:
        batch = review.undo(session, dataset_id, which.batch_id, by=who.name)
        return Answer(201, batch.model_dump(mode="json"), _tag(batch.revision))

    once = accept.once(parts, request, key, accept.fingerprint_of(which.model_dump_json().encode()))
    return (once.earlier() or once.do(work)).response()


@router.get("/reviews", response_model=schemas.Page[schemas.ReviewBatch])
def list_reviews(session: Reading, dataset_id: UUID, cursor: Cursor = None, limit: Limit = 100) -> Response:
    """Who decided when, newest first; the `ETag` is for `If-Match`."""
    page, revision = review.page(session, dataset_id, after=cursor, limit=limit)
    headers = _tag(revision) | {"Cache-Control": "no-cache"}
    return Response(page.model_dump_json(), media_type="application/json", headers=headers)


@router.post(
    "/recut",
    status_code=202,
    response_model=schemas.Job,
    responses=raises(PurificationNotReady, Unprocessable),
)
def request_recut(
    request: Request,
    parts: PartsDep,
    dataset_id: UUID,
    new: Annotated[schemas.NewRecut, Body()] = schemas.NewRecut(),  # noqa: B008 - frozen
    key: Key = None,
) -> Response:
    """A new version from the newest one's signals and the decisions so far; nothing is trained again."""

    def work(session: Session) -> Answer:
        job = review.request_recut(session, dataset_id, new, bell=parts.bell)
        return Answer(202, job.model_dump(mode="json"), {"Location": f"/jobs/{job.id}"})

    once = accept.once(parts, request, key, accept.fingerprint_of(new.model_dump_json().encode()))
    return (once.earlier() or once.do(work)).response()


@router.post("/misses", status_code=202, response_model=schemas.Job)
def report_miss(
    request: Request,
    parts: PartsDep,
    who: PrincipalDep,
    dataset_id: UUID,
    new: schemas.NewMiss,
    *,
    key: Key = None,
) -> Response:
    """An image turned out bad: it is rejected, and the job's result names images like it."""

    def work(session: Session) -> Answer:
        job = review.report_miss(session, dataset_id, new.image_id, by=who.name, bell=parts.bell)
        return Answer(202, job.model_dump(mode="json"), {"Location": f"/jobs/{job.id}"})

    once = accept.once(parts, request, key, accept.fingerprint_of(new.model_dump_json().encode()))
    return (once.earlier() or once.do(work)).response()
