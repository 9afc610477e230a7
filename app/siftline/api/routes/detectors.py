"""Detectors: trained, looked at, deleted; their artifacts."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Header, Request, Response
from fastapi import Path as InPath
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.access.deps import PartsDep, Reading, Writing
from siftline.access.principal import PrincipalDep
from siftline.api import accept
from siftline.api.idempotency import Answer, Key
from siftline.api.parameters import Cursor, Limit
from siftline.api.problems import raises
from siftline.domain.errors import (
    DetectorNotReady,
    InsufficientStorage,
    NotFound,
    PurificationNotReady,
    Unprocessable,
)
from siftline.services import detection
from siftline.services.estimates import DoesNotFit
from siftline.store import artifacts
from siftline.store.session import after_commit, reading

router = APIRouter(prefix="/detectors", tags=["detectors"])

BYTES = {"schema": {"type": "string", "format": "binary"}}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": dict.fromkeys(("application/octet-stream", "application/json", "image/png"), BYTES)},
    304: {"description": "The caller has it already"},
    **raises(DetectorNotReady),
}
Name = Annotated[str, InPath(pattern=r"^[\x21-\x7e]{1,100}$")]  # PostgreSQL's text cannot hold NUL


@router.post(
    "",
    status_code=202,
    response_model=schemas.DetectorCreated,
    responses=raises(NotFound, PurificationNotReady, Unprocessable, DoesNotFit, InsufficientStorage),
)
def create_detector(
    request: Request, parts: PartsDep, new: Annotated[schemas.NewDetector, Body()], key: Key = None
) -> Response:
    """Train a detector on the clean images of a version; human decisions outrank the machine's."""

    def work(session: Session) -> Answer:
        created = detection.create(session, new, bell=parts.bell, settings=parts.settings)
        location = {"Location": f"/detectors/{created.detector.id}"}
        return Answer(202, created.model_dump(mode="json"), location)

    fingerprint = accept.fingerprint_of(new.model_dump_json(exclude_unset=True).encode())
    once = accept.once(parts, request, key, fingerprint)
    return (once.earlier() or once.do(work)).response()


@router.get("")
def list_detectors(
    session: Reading, dataset_id: UUID | None = None, cursor: Cursor = None, limit: Limit = 50
) -> schemas.Page[schemas.Detector]:
    """Newest first."""
    return detection.page(session, dataset_id=dataset_id, after=cursor, limit=limit)


@router.get("/{detector_id}")
def get_detector(session: Reading, detector_id: UUID) -> schemas.Detector:
    return detection.get(session, detector_id)


@router.delete("/{detector_id}", status_code=204, responses=raises(detection.DetectorBusy))
def delete_detector(parts: PartsDep, who: PrincipalDep, session: Writing, detector_id: UUID) -> None:
    """Delete a detector with its artifacts; 409 while a job trains it or scores with it."""
    detection.delete(session, detector_id)
    after_commit(session, partial(parts.detectors.forget, (who.workspace, detector_id)))


@router.get("/{detector_id}/artifacts")
def list_artifacts(session: Reading, detector_id: UUID) -> list[schemas.Artifact]:
    """None before the detector is ready."""
    return detection.list_artifacts(session, detector_id)


@router.head("/{detector_id}/artifacts/{name}", include_in_schema=False)
@router.get("/{detector_id}/artifacts/{name}", response_class=Response, responses=FILE)
def get_artifact(
    request: Request,
    parts: PartsDep,
    detector_id: UUID,
    name: Name,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """A file of the detector, bit for bit as its training wrote it."""
    with reading(parts.sessions) as session:
        artifact = detection.find_artifact(session, detector_id, name)
    headers = {"ETag": f'"{artifact.sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    headers |= {
        "Content-Length": str(artifact.bytes),
        "Content-Disposition": f'attachment; filename="{artifact.name}"',
    }
    if request.method == "HEAD":
        return Response(headers=headers, media_type=artifact.media_type)
    body = artifacts.pieces(parts.sessions, artifact)
    return StreamingResponse(body, headers=headers, media_type=artifact.media_type)
