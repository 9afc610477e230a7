"""What was sent to be scored: one image as the body, or files and archives as multipart."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from starlette.requests import Request

from siftline.access.deps import Parts
from siftline.api import accept, multipart
from siftline.api.accept import UnsupportedMediaType
from siftline.domain.errors import BadRequest, TooLarge
from siftline.services import ingest, scoring
from siftline.services.archives import kind_of
from siftline.services.score_jobs import Files
from siftline.services.scoring import Sent
from siftline.store.spool import SpooledFile, SpoolFolder

IN_MEMORY_BYTES = 1 << 20
"""A larger image goes through the disk: many of them at once must not fill the memory."""


class EmptyBody(BadRequest):
    code = "empty-body"
    title = "There is nothing in the request"


def is_multipart(request: Request) -> bool:
    """Whether the body is files; else it is one image. Raises UnsupportedMediaType, EmptyBody."""
    kind = accept.media_type(request)
    if kind == "multipart/form-data":
        return True
    if kind.startswith("image/") or kind == "application/octet-stream":
        return False
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        raise EmptyBody("Send an image, or multipart/form-data with `files`.")
    raise UnsupportedMediaType("Send image/*, application/octet-stream, or multipart/form-data with `files`.")


@asynccontextmanager
async def one_image(request: Request, parts: Parts, name: str) -> AsyncIterator[Sent]:
    """The body. Raises EmptyBody, and ClientDisconnect when the client goes away."""
    chunks = request.stream()
    head = bytearray()
    async for chunk in chunks:
        head += chunk
        if len(head) > IN_MEMORY_BYTES:
            break
    else:
        if not head:
            raise EmptyBody("The body has no bytes: send an image.")
        yield scoring.in_memory(name, bytes(head))
        return
    async with accept.spooling(parts) as folder:
        yield await _spooled(head, chunks, folder, name)


async def _spooled(buffer: bytearray, chunks: AsyncIterator[bytes], folder: SpoolFolder, name: str) -> Sent:
    with folder.writer(name) as writer:
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) > IN_MEMORY_BYTES:
                await to_thread.run_sync(writer.write, bytes(buffer))
                buffer.clear()
        await to_thread.run_sync(writer.write, bytes(buffer))
        return scoring.spooled(writer.close())


async def files(request: Request, parts: Parts, folder: SpoolFolder) -> tuple[Files, str]:
    """The files, archives unpacked, and the upload's fingerprint.

    Raises BadRequest, InvalidFields, TooLarge, and ClientDisconnect when the client goes away.
    """
    upload = await multipart.receive(request, folder, parts.settings)
    multipart.refuse_fields(upload.fields)
    multipart.require_files(upload)
    sent = upload.files
    if any(isinstance(file, SpooledFile) and kind_of(file.head) for file in sent):
        sent = await to_thread.run_sync(ingest.unpacked, sent, folder, parts.settings, limiter=parts.ingests)
    most = parts.settings.score_job_images
    if len(sent) > most:
        raise TooLarge(f"There are {len(sent)} files; one request may bring {most} to be scored.")
    return [scoring.spooled(f) if isinstance(f, SpooledFile) else f for f in sent], upload.fingerprint
