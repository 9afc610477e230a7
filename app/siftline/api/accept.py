"""The three ways images come in, from the request to the answer."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from uuid import UUID

from anyio import CancelScope, to_thread
from sqlalchemy.orm import Session
from starlette.requests import Request
from starlette.responses import Response
from uuid_utils.compat import uuid7

from siftline.access.deps import Parts
from siftline.api.crowd import Busy
from siftline.api.idempotency import Answer, Once
from siftline.domain.errors import NotFound, SiftlineError
from siftline.schemas import DatasetCreated, DatasetFromSource, NewDataset
from siftline.services import datasets, ingest, sources
from siftline.services.archives import RefusedFile
from siftline.store.spool import SpooledFile, SpoolFolder

Sent = Iterable[SpooledFile | RefusedFile]


@asynccontextmanager
async def spooling(parts: Parts) -> AsyncIterator[SpoolFolder]:
    """A spool folder for one request; clearing it may take a while, so that is done in a thread.

    Raises Busy before a byte is read when too many uploads wait to be unpacked already.
    """
    waiting = parts.ingests.statistics().tasks_waiting
    if waiting >= parts.settings.waiting_uploads:
        raise Busy(f"{waiting} uploads are waiting already.", retry_after_s=5)
    folder = parts.spool.folder()
    try:
        yield await to_thread.run_sync(folder.__enter__)
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(folder.__exit__, None, None, None)


class UnsupportedMediaType(SiftlineError):
    status = 415
    code = "unsupported-media-type"
    title = "The body is of a type this path does not take"


async def answered(parts: Parts, work: Callable[[], Answer]) -> Response:
    """Run `work` in a thread, a few at a time: unpacking and decoding must not starve the small requests."""
    return await to_thread.run_sync(lambda: work().response(), limiter=parts.ingests)


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def once(parts: Parts, request: Request, key: str | None, fingerprint: str) -> Once:
    return Once(parts.sessions, key, f"{request.method} {request.url.path}", fingerprint)


def new_dataset(
    parts: Parts, folder: SpoolFolder, sent: Sent, new: NewDataset, once: Once, *, purify: bool
) -> Answer:
    """Blocking; in a thread."""
    if (earlier := once.earlier()) is not None:
        return earlier
    dataset_id = uuid7()
    files = _taken_in(parts, folder, sent, dataset_id)

    def work(session: Session) -> Answer:
        created = datasets.create(
            session, dataset_id, new, files, bell=parts.bell, settings=parts.settings, purify=purify
        )
        return _answer(created)

    answer = once.do(work)
    if answer.replayed:
        # Only now is it sure that no row points at these blobs; after an error the commit may have happened.
        datasets.delete_bytes(parts.blobs, dataset_id)
    return answer


def more_images(
    parts: Parts, folder: SpoolFolder, sent: Sent, dataset_id: UUID, once: Once, *, purify: bool
) -> Answer:
    """Blocking; in a thread. After an error the blobs stay: another request may have sent the same images."""
    if (earlier := once.earlier()) is not None:
        return earlier
    files = _taken_in(parts, folder, sent, dataset_id)

    def work(session: Session) -> Answer:
        added = datasets.add_images(
            session, dataset_id, files, bell=parts.bell, settings=parts.settings, purify=purify
        )
        return _answer(added)

    try:
        return once.do(work)
    except NotFound:  # deleted while the batch was on its way
        datasets.delete_bytes(parts.blobs, dataset_id)
        raise


def from_source(
    parts: Parts, folder: SpoolFolder, new: DatasetFromSource, once: Once, *, purify: bool
) -> Answer:
    """Blocking; in a thread."""
    sent = sources.read(new.source.uri, folder, parts.settings)
    return new_dataset(parts, folder, sent, new, once, purify=purify)


def fingerprint_of(body: bytes) -> str:
    return sha256(body).hexdigest()


def _taken_in(parts: Parts, folder: SpoolFolder, sent: Sent, dataset_id: UUID) -> list[ingest.Examined]:
    files = list(
        ingest.examined(ingest.unpacked(sent, folder, parts.settings), parts.decoders, parts.settings)
    )
    ingest.store_bytes(parts.blobs, dataset_id, files)
    return files


def _answer(created: DatasetCreated) -> Answer:
    location = {"Location": f"/datasets/{created.dataset.id}"}
    return Answer(202, created.model_dump(mode="json"), location)
