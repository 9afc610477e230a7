"""Datasets: made, listed, added to, deleted."""

from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, BackgroundTasks, Query, Request, Response

from siftline import schemas
from siftline.access.deps import Parts, PartsDep, Reading
from siftline.api import accept, multipart
from siftline.api.idempotency import Key
from siftline.api.parameters import Cursor, Limit, NameContains, Score
from siftline.api.problems import raises
from siftline.domain.errors import InsufficientStorage, Unprocessable
from siftline.services import datasets, images
from siftline.store.selection import Filter
from siftline.store.session import reading, transaction

router = APIRouter(tags=["datasets"])

Purify = Annotated[
    bool, Query(description="`false`: more batches are to come, so do not start purifying with this one.")
]


@router.post(
    "/datasets",
    status_code=202,
    response_model=schemas.DatasetCreated,
    responses=raises(accept.UnsupportedMediaType, Unprocessable, InsufficientStorage),
)
async def create_dataset(
    request: Request, parts: PartsDep, purify: Purify = True, key: Key = None
) -> Response:
    """Make a dataset of images and archives, or of what `source` names; purification starts by itself."""
    async with accept.spooling(parts) as folder:
        match accept.media_type(request):
            case "multipart/form-data":
                upload = await multipart.receive(request, folder, parts.settings)
                new = multipart.new_dataset(upload.fields)
                multipart.require_files(upload)
                once = accept.once(parts, request, key, upload.fingerprint)
                work = partial(accept.new_dataset, parts, folder, upload.files, new, once, purify=purify)
            case "application/json":
                body = await request.body()
                once = accept.once(parts, request, key, accept.fingerprint_of(body))
                new_from = multipart.dataset_from_source(body)
                work = partial(accept.from_source, parts, folder, new_from, once, purify=purify)
            case _:
                raise accept.UnsupportedMediaType("Send multipart/form-data, or JSON with a source.")
        return await accept.answered(parts, work)


@router.post(
    "/datasets/{dataset_id}/images",
    status_code=202,
    response_model=schemas.DatasetCreated,
    responses=raises(accept.UnsupportedMediaType),
)
async def add_images(
    request: Request, dataset_id: UUID, parts: PartsDep, purify: Purify = True, key: Key = None
) -> Response:
    """One more batch; the dataset is purified again."""
    if accept.media_type(request) != "multipart/form-data":
        raise accept.UnsupportedMediaType("Send multipart/form-data.")
    await to_thread.run_sync(_require, parts, dataset_id)  # before gigabytes are read for nothing
    async with accept.spooling(parts) as folder:
        upload = await multipart.receive(request, folder, parts.settings)
        multipart.refuse_fields(upload.fields)
        multipart.require_files(upload)
        once = accept.once(parts, request, key, upload.fingerprint)
        return await accept.answered(
            parts,
            partial(accept.more_images, parts, folder, upload.files, dataset_id, once, purify=purify),
        )


def _require(parts: Parts, dataset_id: UUID) -> None:
    with reading(parts.sessions) as session:
        datasets.get(session, dataset_id)


@router.get("/datasets")
def list_datasets(
    session: Reading, cursor: Cursor = None, limit: Limit = 50
) -> schemas.Page[schemas.Dataset]:
    """Newest first."""
    return datasets.page(session, after=cursor, limit=limit)


@router.get("/datasets/{dataset_id}")
def get_dataset(session: Reading, dataset_id: UUID) -> schemas.Dataset:
    return datasets.get(session, dataset_id)


@router.delete(
    "/datasets/{dataset_id}",
    status_code=204,
    responses=raises(datasets.DatasetBusy, datasets.DatasetHasDetectors),
)
def delete_dataset(parts: PartsDep, dataset_id: UUID, afterwards: BackgroundTasks) -> None:
    """Delete a dataset, its images and all that was made of them; 409 while a job of it is not finished."""
    with transaction(parts.sessions) as session:
        datasets.delete(session, dataset_id)
    # Bytes last: a crash in between leaves files nobody needs, never a row without its bytes. And after the
    # answer, because a disk may take a minute for 20,000 of them (measured).
    afterwards.add_task(_delete_files, parts, dataset_id)


def _delete_files(parts: Parts, dataset_id: UUID) -> None:
    hashes = datasets.delete_bytes(parts.blobs, dataset_id)
    datasets.delete_derived(parts.settings, parts.sessions, dataset_id, hashes)


@router.get("/datasets/{dataset_id}/images")
def list_images(
    session: Reading,
    dataset_id: UUID,
    *,
    status: Literal["ranked", "waiting"] | None = None,
    verdict: schemas.Verdict | None = None,
    review: schemas.ReviewFilter | None = None,
    min_score: Score = None,
    q: NameContains = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> schemas.Page[schemas.Image]:
    """In upload order; `status` tells whether the newest version has ranked an image."""
    ranked = None if status is None else status == "ranked"
    wanted = Filter(ranked=ranked, verdict=verdict, review=review, min_score=min_score, name_contains=q)
    return images.page(session, dataset_id, wanted, after=cursor, limit=limit)


@router.get("/datasets/{dataset_id}/receipts")
def list_receipts(
    session: Reading,
    dataset_id: UUID,
    *,
    status: Literal["accepted", "duplicate", "rejected"] | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> schemas.Page[schemas.Receipt]:
    """What became of every file ever sent, in the order they came."""
    return datasets.receipts_page(session, dataset_id, status=status, after=cursor, limit=limit)
