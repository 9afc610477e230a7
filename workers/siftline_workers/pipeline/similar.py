"""The job `similar`: an image that turned out bad in, the images of its dataset that are most like it out."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound
from siftline.store import images, purifications
from siftline.store.models import Purification
from siftline.store.session import reading
from siftline_workers.methods import likeness, projection
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.pipeline import dataset_images
from siftline_workers.pipeline.dataset_images import DatasetImages
from siftline_workers.pipeline.stages import Stages
from siftline_workers.running import RunningJob

MOST = 50
SHARES = {"load": 0.2, "extract": 0.5, "compare": 0.3}


def run(job: RunningJob) -> None:
    """Compare the image `params["image_id"]` with all others of the dataset, near-duplicates first.

    Raises NotFound when the image is gone, Unprocessable as a purification does, and lets Cancelled and
    LostJob pass.
    """
    wanted = UUID(job.params["image_id"])
    stages = Stages(SHARES, job.report)
    with stages.stage("load"):
        found = dataset_images.load(job.dataset_id, job.settings, job.sessions)
        content = {image_id: sha256 for sha256, image_id in found.ids.items()}.get(wanted)
        if content is None:
            raise NotFound(f"The dataset has no image {wanted}.")
        with reading(job.sessions) as session:
            version = purifications.latest(session, job.dataset_id)
        # That of the newest version: its features are in the cache.
        name = None if version is None else version.backbone["name"]
        backbone = dataset_images.named_backbone(name, job.settings)
    with stages.stage("extract") as progress:
        features = dataset_images.features_of(found, backbone, job.settings, progress)
    with stages.stage("compare") as progress:
        here = features.ids.index(content)
        heat, same_thing = _known(job, version, found, features, here)
        fitted = projection.fit(features)
        alike = likeness.likeness(features, fitted, here, heat, on_progress=progress)
    ids = [found.ids[sha256] for sha256 in features.ids]
    order = sorted(range(len(ids)), key=lambda i: (ids[i] not in same_thing, -alike[i], features.ids[i]))
    best = [(ids[i], float(alike[i])) for i in order if i != here][:MOST]
    job.succeed(lambda session: _answer(session, best))


def _known(
    job: RunningJob, version: Purification | None, found: DatasetImages, features: PatchFeatures, here: int
) -> tuple[dict[int, NDArray[np.uint8]], set[UUID]]:
    """What the newest version says: where images are odd, and which show the same thing as this one."""
    heat: dict[int, NDArray[np.uint8]] = {}
    same_thing: set[UUID] = set()
    if version is None:
        return heat, same_thing
    with reading(job.sessions) as session:
        for i in {here, *likeness.sample_of(features)}:
            item = purifications.item_of(session, version.id, found.ids[features.ids[i]])
            if item is None:
                continue
            if (item.heat_rows, item.heat_cols) == features.grid(i):
                heat[i] = np.frombuffer(item.heat, np.uint8)
            if i == here:
                same_thing = {UUID(image_id) for image_id in item.near_duplicates}
    return heat, same_thing


def _answer(session: Session, best: Sequence[tuple[UUID, float]]) -> dict[str, Any]:
    """As `schemas.SimilarImage` has it."""
    names = images.names(session, [image_id for image_id, _ in best])
    return {
        "similar": [
            {"image_id": str(image_id), "name": names[image_id], "similarity": similarity}
            for image_id, similarity in best
            if image_id in names
        ]
    }
