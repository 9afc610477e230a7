"""What there is to look at: an image's bytes, its thumbnail, its heat map."""

import logging
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound, Unavailable
from siftline.imaging import (
    ImageLimits,
    SampleRange,
    Tone,
    decode_rgb,
    heatmap_png,
    thumbnail_webp,
    tone_of_set,
)
from siftline.settings import Settings
from siftline.store import images, purifications
from siftline.store.blobs import Blobs, image_key, thumbnail_key
from siftline.store.models import Image, PurifiedItem
from siftline.store.spool import Spool

log = logging.getLogger(__name__)

THUMBNAIL_SIDE = 320
HEATMAP_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Subject:
    """An image and, if it has more than eight bits, the tone of the set it belongs to."""

    image: Image
    tone: Tone | None

    @property
    def key(self) -> str:
        return image_key(self.image.dataset_id, self.image.sha256)


def find(session: Session, image_id: UUID) -> Subject:
    """Raises NotFound."""
    image = images.get(session, image_id)
    if image.sample_low is None:
        return Subject(image, None)
    ranges = images.sample_ranges(session, image.dataset_id)
    tone = tone_of_set(SampleRange(low, high, is_float) for low, high, is_float in ranges)
    return Subject(image, tone)


def find_heat(session: Session, image: Image, version: int | None) -> PurifiedItem:
    """The image's row in a version, or in the newest. Raises NotFound."""
    if version is not None:
        purification = purifications.numbered(session, image.dataset_id, version)
    elif (newest := purifications.latest(session, image.dataset_id)) is not None:
        purification = newest
    else:
        raise NotFound("The image has no heat map: its dataset was not purified yet.")
    item = purifications.item_of(session, purification.id, image.id)
    if item is None:
        raise NotFound(f"Version {purification.version} was made before the image came.")
    return item


def content(blobs: Blobs, subject: Subject) -> BinaryIO:
    """The stored bytes. Raises Unavailable when the storage has lost them."""
    try:
        return blobs.open(subject.key)
    except FileNotFoundError as error:
        raise Unavailable("The image's bytes are missing from the storage.", retry_after_s=60) from error


def thumbnail(blobs: Blobs, spool: Spool, decoders: Executor, subject: Subject, settings: Settings) -> bytes:
    """WebP, made on first sight and kept beside the image, unless the storage is full."""
    key = thumbnail_key(subject.image.dataset_id, subject.image.sha256)
    try:
        with blobs.open(key) as kept:
            return kept.read()
    except FileNotFoundError:
        made = decoders.submit(_thumbnail, blobs, subject, settings).result()
    try:
        with spool.folder() as folder, folder.writer("thumbnail") as writer:
            writer.write(made)
            blobs.put(key, writer.close().path)
    except OSError as error:
        log.warning("a thumbnail was not kept: %s", error.strerror)
    return made


def _thumbnail(blobs: Blobs, subject: Subject, settings: Settings) -> bytes:
    return thumbnail_webp(_pixels(blobs, subject, settings), THUMBNAIL_SIDE)


def heatmap(
    blobs: Blobs,
    decoders: Executor,
    subject: Subject,
    item: PurifiedItem,
    settings: Settings,
    *,
    overlay: bool,
) -> bytes:
    """PNG, its longer side at most 1,024 pixels; the colours mean the same in every image of a version."""
    heat = np.frombuffer(item.heat, dtype=np.uint8).reshape(item.heat_rows, item.heat_cols)
    scale = min(1.0, HEATMAP_SIDE / max(subject.image.width, subject.image.height))
    size = (max(1, round(subject.image.width * scale)), max(1, round(subject.image.height * scale)))

    def drawn() -> bytes:
        return heatmap_png(heat, size, _pixels(blobs, subject, settings) if overlay else None)

    return decoders.submit(drawn).result()


def _pixels(blobs: Blobs, subject: Subject, settings: Settings) -> NDArray[np.uint8]:
    # The limit may have been lowered since: what was accepted stays visible.
    pixels = max(settings.max_image_pixels, subject.image.width * subject.image.height)
    with content(blobs, subject) as file:
        return decode_rgb(file, ImageLimits(max_pixels=pixels), subject.tone)
