"""The images a detector is trained on: what a version and the people who looked at it call clean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.review import effective_verdict
from siftline.domain.scores import ImageId
from siftline.imaging import SampleRange, Tone, tone_of_set
from siftline.store import detectors, images
from siftline.store.blobs import Blobs, image_key
from siftline.store.session import reading
from siftline_workers.methods.near_duplicates import NearDuplicates
from siftline_workers.pipeline.extract import StoredImage


@dataclass(frozen=True, slots=True)
class CleanSet:
    """Known by content, in an order that only the content decides."""

    images: tuple[StoredImage, ...]
    groups: NearDuplicates
    image_ids: Mapping[ImageId, UUID]
    tone: Tone | None
    """The whole dataset's: images to be scored are read as these were."""
    review_revision: int
    aside: tuple[StoredImage, ...]
    """Suspects nobody has looked at, but for other photographs of what a clean image shows."""
    good_set_aside: float
    """Good images to be expected among `aside`."""

    @property
    def sha256(self) -> str:
        """Over the sorted sha256 of the images."""
        return hashlib.sha256("\n".join(self.groups.ids).encode()).hexdigest()


def load(sessions: sessionmaker[Session], blobs: Blobs, dataset_id: UUID, version: int) -> CleanSet:
    """The images of a version that are clean now; a person's word outranks the version's."""
    with reading(sessions) as session:
        rows = detectors.reviewed_items(session, dataset_id, version)
        ranges = images.sample_ranges(session, dataset_id)
    clean = [row for row in rows if effective_verdict(row.verdict, row.review) == "clean"]
    shown = {str(row.id) for row in clean}
    aside = [
        row
        for row in rows
        if row.verdict == "suspect" and row.review is None and shown.isdisjoint(row.near_duplicates)
    ]
    ids = tuple(row.sha256 for row in clean)

    def stored(sha256: str) -> StoredImage:
        return StoredImage(sha256, sha256, _reader(blobs, dataset_id, sha256))

    return CleanSet(
        images=tuple(stored(sha256) for sha256 in ids),
        groups=_groups(ids, [(str(row.id), row.near_duplicates) for row in clean]),
        image_ids={row.sha256: row.id for row in (*clean, *aside)},
        tone=tone_of_set(SampleRange(*found) for found in ranges),
        review_revision=rows[0].review_revision if rows else 0,
        aside=tuple(stored(row.sha256) for row in aside),
        good_set_aside=sum(1 - row.p_anomalous for row in aside),
    )


def _reader(blobs: Blobs, dataset_id: UUID, sha256: str) -> Callable[[], bytes]:
    def read() -> bytes:
        with blobs.open(image_key(dataset_id, sha256)) as file:
            return file.read()

    return read


def _groups(ids: tuple[ImageId, ...], items: Sequence[tuple[str, list[str]]]) -> NearDuplicates:
    """A version names of each image all others of its group, so the least name stands for the group."""
    first: dict[str, int] = {}
    names = [min([own, *others]) for own, others in items]
    positions = [first.setdefault(name, position) for position, name in enumerate(names)]
    return NearDuplicates(ids, np.array(positions, dtype=np.int64))
