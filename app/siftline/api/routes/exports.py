"""A version carried out of the house."""

from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from siftline import schemas
from siftline.access.deps import PartsDep
from siftline.api.parameters import Version
from siftline.api.problems import raises
from siftline.domain.errors import PurificationNotReady
from siftline.services import exports

router = APIRouter(prefix="/datasets/{dataset_id}", tags=["exports"])

FILE = {"schema": {"type": "string", "format": "binary"}}
FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            **{kind.partition(";")[0]: FILE for kind in exports.MEDIA_TYPES.values()},
            exports.MEDIA_TYPES["coco"]: {"schema": {"type": "object"}},
        }
    },
    **raises(PurificationNotReady),
}


@router.head("/export", include_in_schema=False)
@router.get("/export", response_class=Response, responses=FILES)
def get_export(
    request: Request,
    parts: PartsDep,
    dataset_id: UUID,
    *,
    fmt: Annotated[exports.Format, Query(alias="format")],
    version: Version = None,
    verdict: Annotated[
        schemas.Verdict | None, Query(description="Only images that count as this; a person's word counts.")
    ] = None,
) -> Response:
    """Tables (csv, jsonl, parquet, coco) of all images, or archives: zip (clean images), mvtec, fiftyone."""
    export = exports.export(
        parts.sessions,
        parts.blobs,
        parts.settings.spool_dir,
        dataset_id,
        fmt,
        version=version,
        verdict=verdict,
    )
    headers = {
        "Content-Length": str(export.length),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(export.file_name, safe='')}",
        "Cache-Control": "no-store",
    }
    if request.method == "HEAD":
        next(export.chunks, None)  # one that never began would leave its files open
        export.chunks.close()
        return Response(headers=headers, media_type=export.media_type)
    return StreamingResponse(export.chunks, headers=headers, media_type=export.media_type)
