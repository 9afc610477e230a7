"""Images as users see them, and lists of them."""

from dataclasses import dataclass
from typing import cast
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.errors import NotFound
from siftline.services import pictures
from siftline.store import cursor, datasets, images, purifications
from siftline.store.models import Image
from siftline.store.selection import Filter


@dataclass(frozen=True, slots=True)
class Opinion:
    """What the newest purification says of an image."""

    version: int
    score: float
    p_anomalous: float
    verdict: str


def content_url(image_id: UUID) -> str:
    return f"/images/{image_id}/content"


def thumbnail_url(image_id: UUID) -> str:
    return f"/images/{image_id}/thumbnail"


def heatmap_url(image_id: UUID, version: int) -> str:
    return f"/images/{image_id}/heatmap?version={version}"


def _describe(image: Image, opinion: Opinion | None) -> schemas.Image:
    return schemas.Image(
        id=image.id,
        dataset_id=image.dataset_id,
        name=image.name,
        sha256=image.sha256,
        bytes=image.bytes,
        width=image.width,
        height=image.height,
        mode=image.mode,
        format=image.format,
        created_at=image.created_at,
        score=None if opinion is None else opinion.score,
        p_anomalous=None if opinion is None else opinion.p_anomalous,
        verdict=None if opinion is None else cast(schemas.Verdict, opinion.verdict),
        review=cast(schemas.ReviewState | None, image.review),
        content_url=content_url(image.id),
        thumbnail_url=thumbnail_url(image.id),
        heatmap_url=None if opinion is None else heatmap_url(image.id, opinion.version),
    )


def get(session: Session, image_id: UUID) -> schemas.Image:
    """Raises NotFound."""
    image = images.get(session, image_id)
    latest = purifications.latest(session, image.dataset_id)
    item = None if latest is None else purifications.item_of(session, latest.id, image_id)
    if latest is None or item is None:
        return _describe(image, None)
    return _describe(image, Opinion(latest.version, item.score, item.p_anomalous, item.verdict))


def explanation(session: Session, image_id: UUID, version: int | None) -> schemas.Explanation:
    """Why an image is ranked where it is in a version, or in the newest. Raises NotFound."""
    image = images.get(session, image_id)
    item = pictures.find_heat(session, image, version)
    if item.explanation is None:
        raise NotFound("This version kept no explanation of the image.")
    newest = purifications.latest(session, image.dataset_id)
    # Not kept with the explanation: a version that was cut anew has it from the one before.
    where = {"image_id": image_id, "version": version or (newest.version if newest else None)}
    return schemas.Explanation.model_validate(item.explanation | where)


def page(
    session: Session, dataset_id: UUID, wanted: Filter, *, after: str | None, limit: int
) -> schemas.Page[schemas.Image]:
    """In upload order, with the verdicts of the newest purification. Raises NotFound."""
    datasets.get(session, dataset_id)
    last = None if after is None else cursor.decode(after, cursor.AfterId).id
    latest = purifications.latest(session, dataset_id)
    purification_id = None if latest is None else latest.id
    rows = images.page(session, dataset_id, purification_id, wanted, after=last, limit=limit + 1)
    items = [
        _describe(
            image,
            None if latest is None or score is None else Opinion(latest.version, score, p_anomalous, verdict),
        )
        for image, score, p_anomalous, verdict in rows[:limit]
    ]
    more = cursor.encode(cursor.AfterId(id=items[-1].id)) if len(rows) > limit else None
    return schemas.Page(items=items, next_cursor=more)
