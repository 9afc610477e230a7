"""What the page's scripts read. Not part of the API: it changes with the page."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from siftline.access.deps import Reading
from siftline.services import gallery, purification
from siftline.store.gallery import Order
from siftline.store.selection import Filter
from siftline.web.parameters import Limit, Offset, Revision, Version, wanted

router = APIRouter(prefix="/d/{dataset_id}", include_in_schema=False)

Wanted = Annotated[Filter, Depends(wanted)]
NO_STORE = {"Cache-Control": "no-store"}


@router.get("/items")
def get_items(
    session: Reading,
    dataset_id: UUID,
    wanted: Wanted,
    *,
    version: Version = None,
    order: Order = "suspect",
    folded: bool = True,
    offset: Offset = 0,
    limit: Limit = 100,
) -> Response:
    """Cards from `offset` on."""
    found = gallery.stretch(
        session,
        dataset_id,
        version=version,
        wanted=wanted,
        order=order,
        folded=folded,
        offset=offset,
        limit=limit,
    )
    return Response(found.model_dump_json(), media_type="application/json", headers=NO_STORE)


@router.get("/scores")
def get_scores(session: Reading, dataset_id: UUID, version: Version = None) -> Response:
    """See `services.gallery.scores` for the bytes."""
    content = gallery.scores(session, dataset_id, version=version)
    return Response(content, media_type="application/octet-stream", headers=NO_STORE)


@router.get("/tally")
def get_tally(session: Reading, dataset_id: UUID, version: Version = None) -> gallery.Tally:
    return gallery.tally(session, purification.find(session, dataset_id, version))


@router.get("/clusters")
def list_clusters(session: Reading, dataset_id: UUID, version: Version = None) -> list[gallery.Cluster]:
    return gallery.clusters(session, dataset_id, version=version)


@router.get("/changes")
def get_changes(session: Reading, dataset_id: UUID, since: Annotated[Revision, Query()]) -> gallery.Changes:
    """What was decided after a revision, by anybody."""
    return gallery.changes(session, dataset_id, since=since)


@router.get("/history/{image_id}")
def get_history(session: Reading, dataset_id: UUID, image_id: UUID) -> list[gallery.Said]:  # noqa: ARG001 - in the path
    return gallery.history(session, image_id)


@router.get("/place/{image_id}")
def get_place(session: Reading, dataset_id: UUID, image_id: UUID, version: Version = None) -> gallery.Place:
    """Where an image stands in the list of everything."""
    return gallery.place(session, dataset_id, image_id, version=version)
