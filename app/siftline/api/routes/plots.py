"""Pictures of a version."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Path, Response
from sqlalchemy.orm import Session

from siftline.access.deps import Parts, PartsDep
from siftline.api.parameters import Version
from siftline.api.problems import raises
from siftline.domain.errors import PurificationNotReady, Unprocessable
from siftline.services import pictures, plots, purification, report, suspects
from siftline.store.models import Purification
from siftline.store.session import reading

router = APIRouter(prefix="/datasets/{dataset_id}", tags=["pictures"])

Plot = Literal["histogram", "agreement", "calibration", "contact-sheet"]
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "The caller has it already"},
}
HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}
ERRORS = raises(PurificationNotReady, Unprocessable)
# The report is a stranger to the page: it may show its own pictures and style, and nothing else.
INERT = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox"


@router.head("/purified/plots/{name}.png", include_in_schema=False)
@router.get("/purified/plots/{name}.png", response_class=Response, responses=PNG | ERRORS)
def get_plot(
    parts: PartsDep,
    dataset_id: UUID,
    name: Annotated[Plot, Path()],
    version: Version = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """Scores with the cut, agreement of the signals, probabilities, or the most suspect images."""
    with reading(parts.sessions) as session:
        found = purification.find(session, dataset_id, version)
        headers = {"ETag": f'"{found.id}-{name}"', "Cache-Control": _cached(version)}
        if if_none_match == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        draw = _sheet(session, found, parts) if name == "contact-sheet" else _plot(session, found, name)
    png = draw()  # no transaction is open while it takes its time
    return Response(png, media_type="image/png", headers=headers)


@router.head("/report", include_in_schema=False)
@router.get("/report", response_class=Response, responses=HTML | ERRORS)
def get_report(parts: PartsDep, dataset_id: UUID, version: Version = None) -> Response:
    """One HTML file to mail or print: what was found, how sure that is, and what people decided."""
    with reading(parts.sessions) as session:
        content = report.gather(session, dataset_id, version)
    html = report.render(content, thumbnail_of(parts))
    headers = {"Content-Security-Policy": INERT, "Cache-Control": "no-store"}
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


def _sheet(session: Session, found: Purification, parts: Parts) -> Callable[[], bytes]:
    return partial(suspects.sheet, suspects.find(session, found, suspects.IN_SHEET), thumbnail_of(parts))


def _plot(session: Session, found: Purification, name: str) -> Callable[[], bytes]:
    return partial(plots.draw, name, plots.load(session, found))


def thumbnail_of(parts: Parts) -> suspects.Thumbnail:
    return partial(_thumbnail, parts)


def _thumbnail(parts: Parts, subject: pictures.Subject) -> bytes:
    return pictures.thumbnail(parts.blobs, parts.spool, parts.decoders, subject, parts.settings)


def _cached(version: int | None) -> str:
    # A version never changes; which one is the newest does.
    return "no-cache" if version is None else "private, max-age=31536000, immutable"
