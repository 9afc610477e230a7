"""The most suspect images of a version, as they are shown: small pictures, with and without heat."""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.domain.errors import Unprocessable
from siftline.imaging import ImageLimits, SheetEntry, contact_sheet, decode_rgb, heatmap_png, thumbnail_webp
from siftline.services import pictures
from siftline.services.pictures import Subject
from siftline.store import exports
from siftline.store.models import Purification, PurifiedItem

Thumbnail = Callable[[Subject], bytes]
"""`pictures.thumbnail` with all but the image filled in."""
IN_SHEET = 24
CAPTION_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Suspect:
    item: PurifiedItem
    subject: Subject


@dataclass(frozen=True, slots=True)
class Shown:
    """A suspect's thumbnail, as WebP and as pixels, and its heat on the version's scale."""

    suspect: Suspect
    webp: bytes
    rgb: NDArray[np.uint8]
    heat: NDArray[np.uint8]

    def under_heat(self) -> bytes:
        """WebP of the thumbnail under its heat map."""
        height, width = self.rgb.shape[:2]
        drawn = decode_rgb(BytesIO(heatmap_png(self.heat, (width, height), self.rgb)), ImageLimits())
        return thumbnail_webp(drawn, max(width, height))


def find(session: Session, found: Purification, limit: int) -> list[Suspect]:
    rows = exports.top(session, found.id, limit)
    return [Suspect(item, pictures.find(session, image.id)) for item, image in rows]


def show(suspect: Suspect, thumbnail: Thumbnail) -> Shown:
    """Raises Unavailable when the storage has lost the image."""
    webp, item = thumbnail(suspect.subject), suspect.item
    rgb = decode_rgb(BytesIO(webp), ImageLimits())
    heat = np.frombuffer(item.heat, dtype=np.uint8).reshape(item.heat_rows, item.heat_cols)
    return Shown(suspect, webp, rgb, heat)


def sheet(suspects: list[Suspect], thumbnail: Thumbnail) -> bytes:
    """PNG: the images beside themselves under their heat maps. Raises Unprocessable if there are none."""
    if not suspects:
        raise Unprocessable("The version has no images to draw.")
    shown = [show(suspect, thumbnail) for suspect in suspects]
    return contact_sheet([SheetEntry(one.rgb, one.heat, _caption(one.suspect)) for one in shown])


def _caption(suspect: Suspect) -> str:
    name = suspect.subject.image.name.rpartition("/")[2]
    return f"#{suspect.item.rank}  p {suspect.item.p_anomalous:.2f}  {name}"[:CAPTION_CHARACTERS]
