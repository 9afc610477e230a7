"""One purification as one HTML file: to mail, to print, to keep beside the model that came of it."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.metadata import version as installed
from typing import cast
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.errors import Unavailable
from siftline.domain.review import Verdict, effective_verdict
from siftline.services import plots, purification, review, suspects, words
from siftline.services.suspects import Suspect, Thumbnail
from siftline.store import datasets, review_history
from siftline.store.models import Dataset, Purification
from siftline.store.session import now

SUSPECTS = 24
BATCHES = 30


@dataclass(frozen=True, slots=True)
class Content:
    """What the database knows that belongs in a report."""

    at: datetime
    dataset: Dataset
    version: Purification
    contamination: schemas.Contamination
    cut: schemas.Cut
    counts: schemas.Counts
    reviewed: schemas.Reviewed
    data: plots.Data
    suspects: Sequence[Suspect]
    people: Sequence[tuple[str, int, int]]
    """(who, images kept, images rejected) of the decisions that stand."""
    batches: Sequence[schemas.ReviewBatch]
    """The newest."""


@dataclass(frozen=True, slots=True)
class Card:
    """One suspect in the report; without pictures when the storage has lost the image."""

    suspect: Suspect
    image_url: str | None
    heat_url: str | None

    @property
    def counts_as(self) -> Verdict:
        machine = cast(Verdict, self.suspect.item.verdict)
        return effective_verdict(machine, self.suspect.subject.image.review)


def gather(session: Session, dataset_id: UUID, version: int | None) -> Content:
    """Raises NotFound, PurificationNotReady, and Unprocessable for a version of no images."""
    found = purification.find(session, dataset_id, version)
    batches, _ = review.page(session, dataset_id, after=None, limit=BATCHES)
    return Content(
        at=now(session),
        dataset=datasets.get(session, dataset_id),
        version=found,
        contamination=schemas.Contamination.model_validate(found.contamination),
        cut=schemas.Cut.model_validate(found.cut),
        counts=schemas.Counts.model_validate(found.counts),
        reviewed=purification.reviewed(session, found),
        data=plots.load(session, found),
        suspects=suspects.find(session, found, SUSPECTS),
        people=review_history.by_person(session, dataset_id),
        batches=batches.items,
    )


def render(content: Content, thumbnail: Thumbnail) -> str:
    """Self-contained: style and pictures are inside, there is no script, and it asks nobody for anything."""
    return (
        _environment()
        .get_template("report.html")
        .render(
            content=content,
            cards=[_card(suspect, thumbnail) for suspect in content.suspects],
            plots={name: _data_url("png", plots.draw(name, content.data)) for name in plots.PLOTS},
            siftline_version=installed("siftline"),
        )
    )


def _card(suspect: Suspect, thumbnail: Thumbnail) -> Card:
    try:
        shown = suspects.show(suspect, thumbnail)
    except Unavailable:
        return Card(suspect, None, None)
    return Card(suspect, _data_url("webp", shown.webp), _data_url("webp", shown.under_heat()))


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("siftline.services"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": words.count, "percent": words.percent}
    environment.globals |= {"words": words}
    return environment
