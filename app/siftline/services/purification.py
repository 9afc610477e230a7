"""Purifications as users see them: asked for, waited for, read page by page."""

from collections.abc import Sequence
from typing import Literal, cast
from uuid import UUID

import numpy as np
from sqlalchemy import Row
from sqlalchemy.orm import Session

from siftline import schemas
from siftline.dispatch import Bell, enqueue
from siftline.domain.errors import PurificationNotReady, Unprocessable
from siftline.domain.jobs import FINISHED, JobKind
from siftline.services import estimates
from siftline.services import jobs as job_answers
from siftline.services.datasets import job_params
from siftline.services.images import heatmap_url, thumbnail_url
from siftline.settings import Settings
from siftline.store import cursor, datasets, purifications, review_history
from siftline.store.models import Image, Purification, PurifiedItem
from siftline.store.selection import Filter
from siftline.store.session import now

Order = Literal["rank", "disputed"]


def request(
    session: Session, dataset_id: UUID, options: schemas.PurifyOptions, *, bell: Bell, settings: Settings
) -> schemas.Job:
    """Run again; what `options` does not name is as in the dataset.

    Raises NotFound, Unprocessable when the dataset has no images, and DoesNotFit or InsufficientStorage
    when no worker has room for it.
    """
    dataset = datasets.lock(session, dataset_id)
    if not dataset.images:
        raise Unprocessable("The dataset has no images to purify.")
    merged = dataset.options | options.model_dump(mode="json", exclude_unset=True)
    params = job_params(schemas.DatasetOptions.model_validate(merged), settings)
    backbone = str(params["backbone"])
    lane = estimates.lane_of(JobKind.PURIFY, backbone, settings)
    estimate = estimates.of_purification(session, dataset_id, backbone)
    if (refusal := estimates.refusal(session, estimate, lane, settings)) is not None:
        raise refusal
    job = enqueue(session, bell, dataset_id, JobKind.PURIFY, params, lane=lane, estimate=estimate)
    return job_answers.describe(job, now(session))


def find(session: Session, dataset_id: UUID, version: int | None) -> Purification:
    """A version, or the newest. Raises NotFound, and PurificationNotReady with the job there is, if any."""
    datasets.get(session, dataset_id)
    if version is not None:
        return purifications.numbered(session, dataset_id, version)
    newest = purifications.latest(session, dataset_id)
    if newest is None:
        raise _not_ready(job_answers.newest_purification(session, dataset_id))
    return newest


def _not_ready(job: schemas.Job | None) -> PurificationNotReady:
    if job is None:
        return PurificationNotReady("No purification of this dataset was asked for.", job=None)
    if job.state in FINISHED:
        return PurificationNotReady(f"The dataset's newest purification has {_ended(job)}.", job=job)
    wait_s = job_answers.look_again_s(job)
    return PurificationNotReady(f"The purification is {job.state}.", job=job, retry_after_s=wait_s)


def _ended(job: schemas.Job) -> str:
    return {"failed": "failed", "cancelled": "been cancelled"}.get(job.state, job.state)


def is_worth_waiting_for(error: PurificationNotReady) -> bool:
    """Whether a job is on its way that may still bring the answer."""
    job = error.extra.get("job")
    return isinstance(job, schemas.Job) and job.state not in FINISHED


def purified(
    session: Session,
    dataset_id: UUID,
    wanted: Filter,
    *,
    version: int | None,
    order: Order,
    after: str | None,
    limit: int,
) -> schemas.Purified:
    """One page of a ranked split. A cursor keeps to the version it was given for.

    Raises NotFound, PurificationNotReady, BadCursor, and Unprocessable when cursor and version disagree.
    """
    kind = cursor.AfterRank if order == "rank" else cursor.AfterDisputed
    start = None if after is None else cursor.decode(after, kind)
    if start is not None and version not in (None, start.version):
        raise Unprocessable(f"The cursor belongs to version {start.version}.")
    found = find(session, dataset_id, version if start is None else start.version)
    rows = _behind(session, found.id, wanted, order=order, start=start, limit=limit + 1)
    fields = schemas.PurifyOptions.model_fields
    return schemas.Purified(
        dataset_id=dataset_id,
        version=found.version,
        created_at=found.created_at,
        options=schemas.PurifyOptions.model_validate({k: v for k, v in found.options.items() if k in fields}),
        backbone=found.backbone,
        contamination=schemas.Contamination.model_validate(found.contamination),
        cut=schemas.Cut.model_validate(found.cut),
        counts=schemas.Counts.model_validate(found.counts),
        reviewed=reviewed(session, found),
        items=[describe_item(item, image, found.version) for item, image in rows[:limit]],
        next_cursor=_cursor(rows[limit - 1][0], found.version, order) if len(rows) > limit else None,
    )


def _behind(
    session: Session,
    purification_id: UUID,
    wanted: Filter,
    *,
    order: Order,
    start: cursor.AfterRank | None,
    limit: int,
) -> Sequence[Row[PurifiedItem, Image]]:
    rank = 0 if start is None else start.rank
    if order == "rank":
        return purifications.ranked(session, purification_id, wanted, after_rank=rank, limit=limit)
    confidence = start.confidence if isinstance(start, cursor.AfterDisputed) else -1.0
    return purifications.disputed(session, purification_id, wanted, after=(confidence, rank), limit=limit)


def _cursor(last: PurifiedItem, version: int, order: Order) -> str:
    if order == "rank":
        return cursor.encode(cursor.AfterRank(version=version, rank=last.rank))
    return cursor.encode(cursor.AfterDisputed(version=version, rank=last.rank, confidence=last.confidence))


def reviewed(session: Session, found: Purification) -> schemas.Reviewed:
    """How people's decisions so far change a version's counts."""
    decided = review_history.counts(session, found.dataset_id, found.id)
    keep, reject = (
        sum(count for (review, _), count in decided.items() if review == word) for word in ("keep", "reject")
    )
    gained = decided.get(("keep", "suspect"), 0) - decided.get(("reject", "clean"), 0)
    clean, suspect = found.counts["clean"] + gained, found.counts["suspect"] - gained
    return schemas.Reviewed(keep=keep, reject=reject, clean=clean, suspect=suspect)


def describe_item(item: PurifiedItem, image: Image, version: int) -> schemas.PurifiedItem:
    return schemas.PurifiedItem(
        image_id=item.image_id,
        name=image.name,
        sha256=image.sha256,
        rank=item.rank,
        score=item.score,
        p_anomalous=item.p_anomalous,
        interval=(item.interval_lo, item.interval_hi),
        verdict=cast(schemas.Verdict, item.verdict),
        needs_review=item.needs_review,
        confidence=item.confidence,
        signals=item.signals,
        review=cast(schemas.ReviewState | None, image.review),
        reviewed_by=image.reviewed_by,
        reviewed_at=image.reviewed_at,
        cluster=item.cluster,
        thumbnail_url=thumbnail_url(item.image_id),
        heatmap_url=heatmap_url(item.image_id, version),
        near_duplicates=[UUID(image_id) for image_id in item.near_duplicates],
    )


def histogram(session: Session, dataset_id: UUID, *, version: int | None, bins: int) -> schemas.Histogram:
    """Scores in equal steps. Raises NotFound, PurificationNotReady."""
    found = find(session, dataset_id, version)
    edges = np.histogram_bin_edges(purifications.score_range(session, found.id), bins).tolist()
    counts = purifications.score_counts(
        session, found.id, start=edges[0], step=edges[1] - edges[0], steps=bins
    )
    return schemas.Histogram(
        dataset_id=dataset_id,
        version=found.version,
        cut=schemas.Cut.model_validate(found.cut),
        bins=[
            schemas.HistogramBin(lo=lo, hi=hi, count=count)
            for lo, hi, count in zip(edges[:-1], edges[1:], counts, strict=True)
        ],
    )


def diff(session: Session, dataset_id: UUID, *, before: int, after: int) -> schemas.Diff:
    """Raises NotFound."""
    datasets.get(session, dataset_id)
    old = purifications.numbered(session, dataset_id, before)
    new = purifications.numbered(session, dataset_id, after)
    return schemas.Diff(
        dataset_id=dataset_id,
        from_version=before,
        to_version=after,
        newly_suspect=list(purifications.moved(session, old.id, new.id, verdict="suspect")),
        newly_cleared=list(purifications.moved(session, old.id, new.id, verdict="clean")),
        added=list(purifications.added(session, old.id, new.id)),
        added_suspect=list(purifications.added(session, old.id, new.id, verdict="suspect")),
    )
