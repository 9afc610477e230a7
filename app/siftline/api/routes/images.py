"""One image: facts, bytes, pictures."""

from collections.abc import Iterator
from typing import Annotated, Any, BinaryIO
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from siftline import schemas
from siftline.access.deps import PartsDep, Reading
from siftline.api.parameters import Version
from siftline.imaging import MEDIA_TYPES
from siftline.services import images, pictures
from siftline.store.session import reading

router = APIRouter(prefix="/images", tags=["images"])

CHUNK_BYTES = 1 << 18
# The bytes of an image never change, and a stranger's file must never act as a page of ours.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}
INERT = {"Content-Security-Policy": "default-src 'none'; sandbox"}
IfNoneMatch = Annotated[str | None, Header()]


def _shown(media_type: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {"schema": {"type": "string", "format": "binary"}}}}}


UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "The caller has it already"}}


@router.get("/{image_id}")
def get_image(session: Reading, image_id: UUID) -> schemas.Image:
    return images.get(session, image_id)


@router.get("/{image_id}/explanation")
def get_explanation(session: Reading, image_id: UUID, version: Version = None) -> schemas.Explanation:
    """Its oddest patch beside the nearest patches of other things; 404 when the version kept none."""
    return images.explanation(session, image_id, version)


@router.head("/{image_id}/content", include_in_schema=False)
@router.get("/{image_id}/content", response_class=Response, responses=_shown("image/*") | UNCHANGED)
def get_content(
    request: Request, parts: PartsDep, image_id: UUID, if_none_match: IfNoneMatch = None
) -> Response:
    """The bytes as they were sent."""
    with reading(parts.sessions) as session:
        subject = pictures.find(session, image_id)
    image = subject.image
    headers = {"ETag": f'"{image.sha256}"', **FOREVER, **INERT}
    if if_none_match == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    name = quote(image.name.rpartition("/")[2] or image.sha256, safe="")
    headers |= {"Content-Length": str(image.bytes), "Content-Disposition": f"inline; filename*=UTF-8''{name}"}
    media_type = MEDIA_TYPES[image.format]
    if request.method == "HEAD":
        return Response(headers=headers, media_type=media_type)
    file = pictures.content(parts.blobs, subject)
    return StreamingResponse(_chunks(file), headers=headers, media_type=media_type)


@router.head("/{image_id}/thumbnail", include_in_schema=False)
@router.get("/{image_id}/thumbnail", response_class=Response, responses=_shown("image/webp"))
def get_thumbnail(parts: PartsDep, image_id: UUID) -> Response:
    """WebP, its longer side at most 320 pixels."""
    with reading(parts.sessions) as session:
        subject = pictures.find(session, image_id)
    webp = pictures.thumbnail(parts.blobs, parts.spool, parts.decoders, subject, parts.settings)
    return Response(webp, media_type="image/webp", headers={"Cache-Control": "private, max-age=3600"})


@router.head("/{image_id}/heatmap", include_in_schema=False)
@router.get("/{image_id}/heatmap", response_class=Response, responses=_shown("image/png"))
def get_heatmap(
    parts: PartsDep,
    image_id: UUID,
    version: Version = None,
    overlay: Annotated[bool, Query(description="Draw it over the image, or by itself.")] = True,
) -> Response:
    """PNG; a colour means the same score in every image of a version."""
    with reading(parts.sessions) as session:
        subject = pictures.find(session, image_id)
        item = pictures.find_heat(session, subject.image, version)
    png = pictures.heatmap(parts.blobs, parts.decoders, subject, item, parts.settings, overlay=overlay)
    headers = FOREVER if version is not None else {"Cache-Control": "no-cache"}
    return Response(png, media_type="image/png", headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
