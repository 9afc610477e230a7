"""Jobs: looked at, listened to, cancelled."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import anyio
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from siftline import schemas
from siftline.access.deps import Parts, PartsDep, Reading, Writing
from siftline.api.parameters import Cursor, Limit
from siftline.api.problems import raises
from siftline.domain.errors import JobStateConflict, NotFound
from siftline.domain.jobs import FINISHED, JobState
from siftline.services import jobs
from siftline.store.session import reading

router = APIRouter(prefix="/jobs", tags=["jobs"])

LOOK_EVERY_S = 0.5
PING_EVERY_S = 15.0
JOB = {"$ref": "#/components/schemas/Job"}
EVENT = {"event": {"type": "string"}, "id": {"type": "string"}, "data": JOB}
STREAM = {"text/event-stream": {"schema": {"type": "object", "properties": EVENT}}}


@router.get("")
def list_jobs(
    session: Reading,
    dataset_id: UUID | None = None,
    state: Annotated[list[JobState], Query(max_length=6)] = [],  # noqa: B006 - FastAPI copies it
    cursor: Cursor = None,
    limit: Limit = 50,
) -> schemas.Page[schemas.Job]:
    """Newest first."""
    return jobs.page(session, dataset_id=dataset_id, states=state, after=cursor, limit=limit)


@router.get("/{job_id}")
def get_job(session: Reading, job_id: UUID) -> schemas.Job:
    return jobs.get(session, job_id)


@router.post("/{job_id}/cancel", status_code=202, responses=raises(JobStateConflict))
def cancel_job(session: Writing, job_id: UUID) -> schemas.Job:
    """Ask a job to stop; 409 when it is finished."""
    return jobs.cancel(session, job_id)


@router.get("/{job_id}/events", response_class=Response, responses={200: {"content": STREAM}, 204: {}})
async def listen(
    parts: PartsDep,
    job_id: UUID,
    last_event_id: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """The job whenever it changes, as server-sent events, until it is finished.

    204, which ends an EventSource's attempts to come back, when `Last-Event-ID` says that the end was seen.
    """
    job = await to_thread.run_sync(_look, parts, job_id)
    if job.state in FINISHED and _event_id(job) == last_event_id:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return EventSourceResponse(_changes(parts, job, last_event_id), headers=headers)


def _look(parts: Parts, job_id: UUID) -> schemas.Job:
    with reading(parts.sessions) as session:
        return jobs.get(session, job_id)


def _event_id(job: schemas.Job) -> str:
    return f"{job.attempt}-{job.state}-{job.stage or ''}-{job.progress:.4f}"


async def _changes(parts: Parts, job: schemas.Job, seen: str | None) -> AsyncIterator[bytes]:
    silent_s = 0.0
    while True:
        if _event_id(job) != seen:
            seen = _event_id(job)
            silent_s = 0.0
            yield format_sse_event(data_str=job.model_dump_json(), event="job", id=seen)
        elif silent_s >= PING_EVERY_S:
            silent_s = 0.0
            yield KEEPALIVE_COMMENT
        if job.state in FINISHED:
            return
        await anyio.sleep(LOOK_EVERY_S)
        silent_s += LOOK_EVERY_S
        try:
            job = await to_thread.run_sync(_look, parts, job.id)
        except NotFound:  # deleted with its dataset
            return
