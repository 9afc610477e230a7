"""The pages that people see. What their scripts read is in `feed` and in the API."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.access.deps import Reading
from siftline.domain.errors import PurificationNotReady
from siftline.domain.jobs import JobState
from siftline.services import datasets, detection, gallery, jobs, purification
from siftline.web.html import PageRoute, page
from siftline.web.parameters import Cursor, Version, VersionNumber

router = APIRouter(route_class=PageRoute, include_in_schema=False, default_response_class=HTMLResponse)

SHOWN_OF_DIFF = 200


@router.get("/")
def show_datasets(request: Request, session: Reading, cursor: Cursor = None) -> HTMLResponse:
    found = datasets.page(session, after=cursor, limit=50)
    glances = gallery.glances(session, [dataset.id for dataset in found.items])
    return page(request, "datasets.html", page=found, glances=glances)


@router.get("/d/{dataset_id}/row")
def show_dataset_row(request: Request, session: Reading, dataset_id: UUID) -> HTMLResponse:
    """One line of the list, for a script to put in the place of the one that has become old."""
    dataset, glances = datasets.get(session, dataset_id), gallery.glances(session, [dataset_id])
    return page(request, "dataset_row.html", dataset=dataset, glances=glances)


@router.get("/d/{dataset_id}")
def show_dataset(
    request: Request, session: Reading, dataset_id: UUID, version: Version = None
) -> HTMLResponse:
    dataset = datasets.get(session, dataset_id)
    try:
        found = purification.find(session, dataset_id, version)
    except PurificationNotReady:
        return page(request, "dataset_waiting.html", dataset=dataset)
    return page(
        request,
        "dataset.html",
        dataset=dataset,
        version=found.version,
        based_on=found.based_on,
        made_at=found.created_at,
        contamination=schemas.Contamination.model_validate(found.contamination),
        cut=schemas.Cut.model_validate(found.cut),
        tally=gallery.tally(session, found),
        backbone=found.backbone.get("name", ""),
        versions=gallery.versions(session, dataset_id),
        aspect=gallery.aspect(session, dataset_id),
    )


@router.get("/d/{dataset_id}/diff")
def show_diff(
    request: Request,
    session: Reading,
    dataset_id: UUID,
    before: Annotated[VersionNumber, Query(alias="from")],
    after: Annotated[VersionNumber, Query(alias="to")],
) -> HTMLResponse:
    diff = purification.diff(session, dataset_id, before=before, after=after)
    return page(
        request,
        "diff.html",
        dataset=datasets.get(session, dataset_id),
        diff=diff,
        versions=gallery.versions(session, dataset_id),
        shown=SHOWN_OF_DIFF,
    )


@router.get("/j")
def show_jobs(
    request: Request, session: Reading, dataset_id: UUID | None = None, cursor: Cursor = None
) -> HTMLResponse:
    found = jobs.page(session, dataset_id=dataset_id, states=list(JobState), after=cursor, limit=50)
    return page(request, "jobs.html", page=found, names=_names(session, found.items), dataset_id=dataset_id)


@router.get("/j/{job_id}/row")
def show_job_row(request: Request, session: Reading, job_id: UUID) -> HTMLResponse:
    job = jobs.get(session, job_id)
    return page(request, "job_row.html", job=job, names=_names(session, [job]))


def _names(session: Session, listed: list[schemas.Job]) -> dict[UUID, str]:
    return gallery.names(session, {job.dataset_id for job in listed})


@router.get("/m")
def show_detectors(request: Request, session: Reading, dataset_id: UUID | None = None) -> HTMLResponse:
    """The list itself comes from the API, as do all facts about detectors."""
    choices = datasets.page(session, after=None, limit=200).items
    return page(request, "detectors.html", choices=choices, dataset_id=dataset_id)


@router.get("/m/{detector_id}")
def show_detector(request: Request, session: Reading, detector_id: UUID) -> HTMLResponse:
    detection.get(session, detector_id)  # there, or not found
    return page(request, "detector.html", detector_id=detector_id)


@router.get("/signin")
def show_sign_in(
    request: Request,
    wrong: str | None = None,
    onward: Annotated[str, Query(alias="next", max_length=500)] = "/",
) -> HTMLResponse:
    status = 200 if wrong is None else 401
    return page(request, "signin.html", status, wrong=wrong is not None, onward=onward)
