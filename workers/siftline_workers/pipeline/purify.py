"""The job `purify`: a dataset's stored images in, one immutable ranked version out."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from siftline.domain.errors import Unprocessable
from siftline.imaging import SampleRange, Tone, tone_of_set
from siftline.schemas import PurifyOptions
from siftline.settings import Settings
from siftline.store import images, purifications, receipts
from siftline.store.blobs import image_key
from siftline.store.blobs_local import LocalBlobs
from siftline.store.purifications import NewItem, NewVersion
from siftline.store.session import now, reading
from siftline_workers.methods.backbones import Backbone, find_weights, load_backbone, preset_named
from siftline_workers.methods.explanations import image_of, surroundings
from siftline_workers.methods.features import PatchFeatures
from siftline_workers.methods.neighbours import search_precision
from siftline_workers.methods.weights import WeightsUnusable
from siftline_workers.pipeline import ranking
from siftline_workers.pipeline.checkpoints import Checkpoints, content_key
from siftline_workers.pipeline.extract import ExtractionFailed, StoredImage, extract
from siftline_workers.pipeline.feature_cache import FeatureCache
from siftline_workers.pipeline.ranking import Ranking, RankOptions
from siftline_workers.pipeline.stages import Progress, Stages
from siftline_workers.running import RunningJob

SHARES = {
    "load": 0.16,
    "extract": 0.32,
    **{name: 0.5 * share for name, share in ranking.SHARES.items()},
    "write": 0.02,
}
"""Of the time of a run without cached features, as measured on 738 images with `lite` on two busy cores."""


def run(job: RunningJob) -> None:
    """Purify the dataset of `job`. Its params are `PurifyOptions` with the backbone named.

    Raises Unprocessable for what the user can mend (no images, no weights, an unreadable image), and lets
    Cancelled and LostJob pass.
    """
    options = PurifyOptions.model_validate(job.params)
    stages = Stages(SHARES, job.report)
    with stages.stage("load"):
        ids, stored, tone = _stored_images(job)
        backbone = _backbone(options, job.settings)
    cache = FeatureCache(job.settings.features_dir)
    with stages.stage("extract") as progress:
        features = _features(ids, stored, backbone, cache, tone=tone, progress=progress)
    checkpoints = _checkpoints(options, backbone, tone, features, job.settings.work_dir)
    chosen = RankOptions(**options.model_dump(exclude={"backbone"}))
    ranked = ranking.rank(features, chosen, checkpoints, stages)
    with stages.stage("write"):
        version = _version(options, backbone, ranked, stages.seconds)
        items = list(_items(ids, features, ranked))
        job.succeed(lambda session: _write(session, job, version, items))
    checkpoints.clear()


def _stored_images(job: RunningJob) -> tuple[dict[str, UUID], list[StoredImage], Tone | None]:
    """The dataset's images by content, in an order that only their content decides."""
    blobs = LocalBlobs(job.settings.blobs_dir)

    def reader(sha256: str) -> Callable[[], bytes]:
        def read() -> bytes:
            with blobs.open(image_key(job.dataset_id, sha256)) as file:
                return file.read()

        return read

    with reading(job.sessions) as session:
        ids = {image.sha256: image.id for image in images.of_dataset(session, job.dataset_id)}
        ranges = images.sample_ranges(session, job.dataset_id)
    if not ids:
        raise Unprocessable("The dataset has no images to purify.")
    # Methods know an image by its content, so the same images get the same answer in any dataset and order.
    stored = [StoredImage(sha256, sha256, reader(sha256)) for sha256 in sorted(ids)]
    return ids, stored, tone_of_set(SampleRange(*found) for found in ranges)


def _backbone(options: PurifyOptions, settings: Settings) -> Backbone:
    try:
        preset = preset_named(options.backbone or settings.backbone)
        return load_backbone(preset, find_weights(preset, settings.weights_dir), settings.device)
    except (ValueError, WeightsUnusable) as error:
        # Both are written for users: they name the choices, or the file that is missing.
        raise Unprocessable(str(error)) from error


def _features(
    ids: Mapping[str, UUID],
    stored: Sequence[StoredImage],
    backbone: Backbone,
    cache: FeatureCache,
    *,
    tone: Tone | None,
    progress: Progress,
) -> PatchFeatures:
    try:
        return extract(stored, backbone, cache, progress, tone)
    except ExtractionFailed as error:
        image_id = ids[error.image_id]
        raise Unprocessable(f"Image {image_id}: {error.detail}.", image_id=str(image_id)) from error


def _checkpoints(
    options: PurifyOptions, backbone: Backbone, tone: Tone | None, features: PatchFeatures, work_dir: Path
) -> Checkpoints:
    done_by = {
        "ranking": ranking.VERSION,
        "options": options.model_dump(mode="json"),
        "backbone": backbone.fingerprint,
        "tone": None if tone is None else asdict(tone),
        # Workers of different make must not mix their shards in one graph.
        "precision": str(search_precision()),
    }
    return Checkpoints(work_dir, content_key(done_by, features.ids))


def _version(
    options: PurifyOptions, backbone: Backbone, ranked: Ranking, seconds: Mapping[str, float]
) -> NewVersion:
    """All of the version but the count of rejected files, which only the database knows."""
    decided = ranked.split
    verdicts = Counter(decided.verdict)
    return NewVersion(
        options=options.model_dump(mode="json"),
        backbone={"name": backbone.preset.name, "fingerprint": backbone.fingerprint},
        contamination=asdict(decided.contamination),
        cut=asdict(decided.cut),
        counts={
            "clean": verdicts["clean"],
            "suspect": verdicts["suspect"],
            "needs_review": int(decided.needs_review.sum()),
        },
        heat_scale={"min": 0.0, "max": 1.0},
        stage_seconds=dict(seconds),
    )


def _items(ids: Mapping[str, UUID], features: PatchFeatures, ranked: Ranking) -> Iterator[NewItem]:
    """One row an image, most suspect first; images of equal score by their content, so reruns agree."""
    decided, scores = ranked.split, ranked.fused.scores
    order = sorted(range(len(scores.ids)), key=lambda i: (-scores.values[i], scores.ids[i]))
    heat = np.rint(np.clip(ranked.heat, 0.0, 1.0) * 255.0).astype(np.uint8)
    same_thing: dict[int, list[int]] = {}
    for i, group in enumerate(ranked.groups.group.tolist()):
        same_thing.setdefault(group, []).append(i)
    for rank, i in enumerate(order, start=1):
        rows, cols = features.grid(i)
        yield NewItem(
            image_id=ids[scores.ids[i]],
            rank=rank,
            score=float(scores.values[i]),
            p_anomalous=float(decided.p_anomalous[i]),
            interval=(float(decided.interval[i, 0]), float(decided.interval[i, 1])),
            verdict=decided.verdict[i],
            needs_review=bool(decided.needs_review[i]),
            confidence=float(decided.confidence[i]),
            signals={name: float(signal.values[i]) for name, signal in ranked.fused.signals.items()},
            near_duplicates=[
                ids[scores.ids[other]] for other in same_thing[int(ranked.groups.group[i])] if other != i
            ],
            cluster=int(ranked.cluster[i]),
            explanation=_explanation(ids, features, ranked, i),
            heat_rows=rows,
            heat_cols=cols,
            heat=heat[features.offsets[i] : features.offsets[i + 1]].tobytes(),
        )


def _explanation(ids: Mapping[str, UUID], features: PatchFeatures, ranked: Ranking, i: int) -> dict[str, Any]:
    """`schemas.Explanation` of image i, without its own id and the version, which the row has."""
    found = ranked.oddest

    def box(row: int) -> dict[str, float]:
        return dict(zip(("left", "top", "right", "bottom"), surroundings(features, row), strict=True))

    return {
        "box": box(int(found.rows[i])),
        "distance": float(found.distance[i]),
        "typical_distance": found.typical_distance,
        "neighbours": [
            {
                "image_id": str(ids[features.ids[image_of(features, row)]]),
                "box": box(row),
                "distance": float(distance),
            }
            for row, distance in zip(found.neighbours[i].tolist(), found.distances[i], strict=True)
            if row >= 0
        ],
    }


def _write(
    session: Session, job: RunningJob, version: NewVersion, items: Sequence[NewItem]
) -> dict[str, Any]:
    rejected = receipts.rejected_counts(session, [job.dataset_id]).get(job.dataset_id, 0)
    counts = version.counts | {"rejected_files": rejected}
    number = purifications.write_version(
        session,
        dataset_id=job.dataset_id,
        job_id=job.id,
        created_at=now(session),
        version=replace(version, counts=counts),
        items=items,
    )
    return {"version": number, "counts": counts}
