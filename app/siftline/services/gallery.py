"""The review page's reading: stretches of the ranked list, scores for the cut, groups, who decided what."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

import numpy as np
from pydantic import BaseModel
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.domain.errors import NotFound
from siftline.domain.review import effective_verdict
from siftline.services import purification
from siftline.services import versions as versions_kept
from siftline.services.versions import Ranks
from siftline.store import datasets, gallery, images, review_history
from siftline.store.gallery import Order
from siftline.store.models import Image, Purification
from siftline.store.selection import Filter

MOST_CHANGES = 1000
MOST_CLUSTERS = 500
SHOWN_OF_CLUSTER = 6
SHOWN_IN_LINE = 5
SAMPLED_FOR_ASPECT = 200


class Stretch(BaseModel):
    """Cards `offset`, `offset` + 1, … of `total`. A card stands for an image and its near-duplicates."""

    version: int
    revision: int
    total: int
    images: int
    offset: int
    items: list[schemas.PurifiedItem]


class Standing(BaseModel):
    """What stands on an image now."""

    image_id: UUID
    review: schemas.ReviewState | None
    reviewed_by: str | None
    reviewed_at: datetime | None


class Changes(BaseModel):
    revision: int
    complete: bool
    """False: too many to list; read everything again."""
    images: list[Standing]


class Cluster(BaseModel):
    """Suspects that look alike."""

    cluster: int
    images: int
    kept: int
    rejected: int
    first_rank: int
    shown: list[UUID]


class Said(BaseModel):
    """One decision about one image."""

    decision: str
    previous: str | None
    by: str
    at: datetime
    undo: bool


class Place(BaseModel):
    rank: int


class Tally(BaseModel):
    """How a version's images are split, by the machine and with what people said."""

    revision: int
    images: int
    clean: int
    suspect: int
    needs_review: int
    kept: int
    rejected: int
    machine_suspect: int
    since_version: int
    """Batches of decisions that the version has not heeded yet."""


@dataclass(frozen=True, slots=True)
class VersionLine:
    version: int
    created_at: datetime
    based_on: int | None
    """The version it was cut anew from, if it is not a run of its own."""


def versions(session: Session, dataset_id: UUID) -> list[VersionLine]:
    """Newest first."""
    return [VersionLine(*row) for row in gallery.versions(session, dataset_id)]


def names(session: Session, dataset_ids: Collection[UUID]) -> dict[UUID, str]:
    """Of the datasets that still are."""
    return gallery.names(session, dataset_ids)


@dataclass(frozen=True, slots=True)
class Glance:
    """The newest version of a dataset in a line."""

    counts: schemas.Counts
    top: list[UUID]


def glances(session: Session, dataset_ids: Collection[UUID]) -> dict[UUID, Glance]:
    """Of the datasets that have a version."""
    found = gallery.latest_of(session, dataset_ids)
    top: dict[UUID, list[UUID]] = {version.id: [] for version in found}
    for purification_id, image_id in gallery.top(session, list(top), SHOWN_IN_LINE):
        top[purification_id].append(image_id)
    return {
        version.dataset_id: Glance(schemas.Counts.model_validate(version.counts), top[version.id])
        for version in found
    }


def aspect(session: Session, dataset_id: UUID) -> float:
    """Width over height that suits most images, within what a card can be."""
    ratios = [width / height for width, height in gallery.sizes(session, dataset_id, SAMPLED_FOR_ASPECT)]
    return round(float(np.clip(np.median(ratios), 0.8, 1.8)), 3) if ratios else 4 / 3


def stretch(
    session: Session,
    dataset_id: UUID,
    *,
    version: int | None,
    wanted: Filter,
    order: Order,
    folded: bool,
    offset: int,
    limit: int,
) -> Stretch:
    """Raises NotFound, PurificationNotReady."""
    # Before the rows: the page reads what was decided after it, so that too old a number only costs a look.
    revision = datasets.get(session, dataset_id).review_revision
    found = purification.find(session, dataset_id, version)
    fitting = versions_kept.ranks(session, found, wanted, order)
    shown = _folded(fitting, versions_kept.leaders(session, found)) if folded else fitting
    rows = gallery.rows(session, found.id, shown[offset : offset + limit].tolist())
    return Stretch(
        version=found.version,
        revision=revision,
        total=len(shown),
        images=len(fitting),
        offset=offset,
        items=[purification.describe_item(item, image, found.version) for item, image in rows],
    )


def _folded(ranks: Ranks, leaders: Ranks) -> Ranks:
    """The first of each group of near-duplicates, in the order given."""
    _, first = np.unique(leaders[ranks], return_index=True)
    return ranks[np.sort(first)]


def scores(session: Session, dataset_id: UUID, *, version: int | None) -> bytes:
    """Three little-endian uint32 (undecided, kept, rejected), then their float32 scores, each descending.

    400 bytes for 100 images, 200 kB for 50,000: enough to tell at once what any cut would move.
    Raises NotFound, PurificationNotReady.
    """
    found = purification.find(session, dataset_id, version)
    all_scores = versions_kept.scores(session, found)
    said = np.zeros(len(all_scores), dtype=np.int8)
    for rank, review in gallery.decided(session, dataset_id, found.id):
        said[rank - 1] = 1 if review == "keep" else 2
    parts = [np.sort(all_scores[said == word])[::-1].astype("<f4") for word in range(3)]
    return np.array([len(p) for p in parts], dtype="<u4").tobytes() + b"".join(p.tobytes() for p in parts)


def tally(session: Session, found: Purification) -> Tally:
    decided = review_history.counts(session, found.dataset_id, found.id)
    counts = schemas.Counts.model_validate(found.counts)
    moved = {
        verdict: sum(
            n
            for (review, machine), n in decided.items()
            if effective_verdict(cast(schemas.Verdict, machine), review) == verdict != machine
        )
        for verdict in ("clean", "suspect")
    }
    revision = datasets.get(session, found.dataset_id).review_revision
    return Tally(
        revision=revision,
        images=counts.clean + counts.suspect,
        clean=counts.clean + moved["clean"] - moved["suspect"],
        suspect=counts.suspect + moved["suspect"] - moved["clean"],
        needs_review=counts.needs_review,
        kept=sum(n for (review, _), n in decided.items() if review == "keep"),
        rejected=sum(n for (review, _), n in decided.items() if review == "reject"),
        machine_suspect=counts.suspect,
        since_version=revision - found.review_revision,
    )


def clusters(session: Session, dataset_id: UUID, *, version: int | None) -> list[Cluster]:
    """The largest first. Raises NotFound, PurificationNotReady."""
    found = purification.find(session, dataset_id, version)
    members: dict[int, list[gallery.Clustered]] = {}
    for row in gallery.clustered(session, found.id):
        members.setdefault(row.cluster, []).append(row)
    ordered = sorted(members.values(), key=lambda rows: (-len(rows), rows[0].rank))
    return [_cluster(rows) for rows in ordered[:MOST_CLUSTERS]]


def _cluster(rows: Sequence[gallery.Clustered]) -> Cluster:
    return Cluster(
        cluster=rows[0].cluster,
        images=len(rows),
        kept=sum(row.review == "keep" for row in rows),
        rejected=sum(row.review == "reject" for row in rows),
        first_rank=rows[0].rank,
        shown=[row.image_id for row in rows[:SHOWN_OF_CLUSTER]],
    )


def changes(session: Session, dataset_id: UUID, *, since: int) -> Changes:
    """What others, or other windows, decided after a revision. Raises NotFound."""
    revision = datasets.get(session, dataset_id).review_revision
    if revision == since:
        return Changes(revision=revision, complete=True, images=[])
    changed = gallery.changed_since(session, dataset_id, since, MOST_CHANGES + 1)
    complete = len(changed) <= MOST_CHANGES
    return Changes(
        revision=revision, complete=complete, images=[_standing(i) for i in changed] if complete else []
    )


def _standing(image: Image) -> Standing:
    return Standing(
        image_id=image.id,
        review=cast(schemas.ReviewState | None, image.review),
        reviewed_by=image.reviewed_by,
        reviewed_at=image.reviewed_at,
    )


def history(session: Session, image_id: UUID) -> list[Said]:
    """Newest first. Raises NotFound."""
    images.get(session, image_id)
    return [
        Said(
            decision=decision.decision,
            previous=decision.previous,
            by=batch.by,
            at=batch.at,
            undo=batch.undoes is not None,
        )
        for batch, decision in gallery.history(session, image_id)
    ]


def place(session: Session, dataset_id: UUID, image_id: UUID, *, version: int | None) -> Place:
    """Raises NotFound, PurificationNotReady."""
    found = purification.find(session, dataset_id, version)
    rank = gallery.rank_of(session, found.id, image_id)
    if rank is None:
        raise NotFound(f"Version {found.version} knows no image {image_id}.")
    return Place(rank=rank)
