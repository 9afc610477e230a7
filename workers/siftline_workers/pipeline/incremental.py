"""A batch for a set that was purified before: which of its images are the basis of the new version.

Those of the last version that was made from all of its images, as long as the set has grown by no more than
a quarter since: then the graph is only brought up to date (graph.py). Everything after the graph is cheap
and done anew. The rule looks at the database alone, so every worker follows it to the same answer; a worker
that kept nothing of the basis only takes longer.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from siftline.store import purifications
from siftline_workers.pipeline.dataset_images import DatasetImages

BASIS_KEY = "basis"
"""In a version's options: the number of the version whose images are its basis. Its own: not there."""

_MOST_GROWTH = 0.25
_FEWEST = 256  # images from which scales are taken (near_duplicates.py): of fewer all are too few


@dataclass(frozen=True, slots=True)
class Growth:
    """A set whose first images are those of an earlier version."""

    version: int
    images: int

    def described(self, of: int) -> dict[str, Any]:
        """For the job's result."""
        return {"basis_version": self.version, "basis_images": self.images, "added_images": of - self.images}


def earlier(
    session: Session, dataset_id: UUID, *, seed: int, fingerprint: str
) -> tuple[int, Collection[UUID]] | None:
    """Number and images of the version that a new one may be built on: with the same seed and features."""
    newest = purifications.latest(session, dataset_id)
    if newest is None or newest.options.get("seed") != seed or newest.backbone["fingerprint"] != fingerprint:
        return None
    number = newest.options.get(BASIS_KEY, newest.version)
    base = newest if number == newest.version else purifications.numbered(session, dataset_id, number)
    return number, purifications.image_ids(session, base.id)


def grown(
    found: DatasetImages, version: int, images: Collection[UUID]
) -> tuple[DatasetImages, Growth] | None:
    """The set with the version's images in front. None when it is too small, has lost images or has grown too
    much: then all are looked at anew. None as well when nothing was added.
    """
    known = set(images)
    first = [image for image in found.stored if found.ids[image.image_id] in known]
    added = len(found.stored) - len(first)
    if len(first) < max(len(known), _FEWEST) or not 0 < added <= _MOST_GROWTH * len(first):
        return None
    rest = [image for image in found.stored if found.ids[image.image_id] not in known]
    return replace(found, stored=(*first, *rest)), Growth(version, len(first))
