"""Detectors as users see them: asked for, listed, looked into, deleted."""

from collections.abc import Sequence
from typing import Literal, cast
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline import schemas
from siftline.dispatch import Bell, enqueue
from siftline.domain.errors import Conflict, DetectorNotReady, Unprocessable
from siftline.domain.jobs import FINISHED, JobKind, JobState
from siftline.domain.review import effective_verdict
from siftline.services import estimates, purification
from siftline.services import jobs as job_answers
from siftline.settings import Settings
from siftline.store import artifacts, cursor, datasets, detectors
from siftline.store.models import Artifact, Dataset, Detector, Job, Purification
from siftline.store.session import now

LEAST_IMAGES = 10
"""Fewer cannot be split into folds and leave a threshold that means anything."""

STATES: dict[str, schemas.DetectorState] = {
    JobState.SUCCEEDED: "ready",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}
LONGEST_NAME = 200


class DetectorBusy(Conflict):
    code = "detector-busy"
    title = "The detector is being worked on"


def create(
    session: Session, new: schemas.NewDetector, *, bell: Bell, settings: Settings
) -> schemas.DetectorCreated:
    """Train on the images of a version that count as clean when the training begins.

    Raises NotFound for the dataset or version, PurificationNotReady when there is none, Unprocessable when
    too few images are clean, and DoesNotFit or InsufficientStorage when no worker has room for it.
    """
    dataset = datasets.lock(session, new.dataset_id)
    version = purification.find(session, new.dataset_id, new.version)
    _require_images(session, version)
    backbone = new.options.backbone or version.backbone["name"]
    detector_id = uuid7()
    lane = estimates.lane_of(JobKind.TRAIN, backbone, settings)
    estimate = estimates.of_training(session, dataset.id, new.method, backbone)
    if (refusal := estimates.refusal(session, estimate, lane, settings)) is not None:
        raise refusal
    job = enqueue(
        *(session, bell, dataset.id, JobKind.TRAIN, {}), detector_id=detector_id, lane=lane, estimate=estimate
    )
    row = Detector(
        id=detector_id,
        dataset_id=dataset.id,
        job_id=job.id,
        version=version.version,
        name=new.name or _name(dataset, version, new.method),
        method=new.method,
        options=new.options.model_dump(mode="json") | {"backbone": backbone},
        created_at=now(session),
    )
    session.add(row)
    session.flush()
    described = _describe(row, job_answers.describe(job, now(session)), [])
    return schemas.DetectorCreated(detector=described, job=described.job)


def _require_images(session: Session, version: Purification) -> None:
    clean = sum(
        count
        for verdict, review, count in detectors.verdict_counts(session, version.id)
        if effective_verdict(cast(schemas.Verdict, verdict), review) == "clean"
    )
    if clean < LEAST_IMAGES:
        raise Unprocessable(
            f"Version {version.version} has {clean} clean images; a detector needs at least {LEAST_IMAGES}."
        )


def _name(dataset: Dataset, version: Purification, method: str) -> str:
    suffix = f" v{version.version} {method}"
    return dataset.name[: LONGEST_NAME - len(suffix)] + suffix


def page(
    session: Session, *, dataset_id: UUID | None, after: str | None, limit: int
) -> schemas.Page[schemas.Detector]:
    """Newest first."""
    before = None if after is None else cursor.decode(after, cursor.AfterId).id
    rows = detectors.page(session, dataset_id=dataset_id, before=before, limit=limit + 1)
    items = _described(session, rows[:limit])
    more = cursor.encode(cursor.AfterId(id=items[-1].id)) if len(rows) > limit else None
    return schemas.Page(items=items, next_cursor=more)


def get(session: Session, detector_id: UUID) -> schemas.Detector:
    """Raises NotFound."""
    return _described(session, [detectors.get(session, detector_id)])[0]


def ready(session: Session, detector_id: UUID) -> schemas.Detector:
    """A detector that can score. Raises NotFound, and DetectorNotReady with its training job."""
    detector = get(session, detector_id)
    if detector.state != "ready":
        raise _not_ready(detector.job)
    return detector


def _not_ready(job: schemas.Job) -> DetectorNotReady:
    if job.state not in FINISHED:
        wait_s = job_answers.look_again_s(job)
        return DetectorNotReady(f"Its training is {job.state}.", job=job, retry_after_s=wait_s)
    reason = "been cancelled." if job.error is None else f"failed: {job.error.detail}"
    return DetectorNotReady(f"Its training has {reason} Train another one.", job=job)


def delete(session: Session, detector_id: UUID) -> None:
    """Forget the detector with its artifacts; its jobs stay as history, without its id.

    Raises NotFound, and DetectorBusy while a job trains it or scores with it.
    """
    detectors.lock(session, detector_id)
    job = detectors.unfinished_job(session, detector_id)
    if job is not None:
        described = job_answers.describe(job, now(session))
        raise DetectorBusy(
            f"Job {job.id} is {job.state}: cancel it and wait until it is over.", job=described
        )
    detectors.delete(session, detector_id)


def list_artifacts(session: Session, detector_id: UUID) -> list[schemas.Artifact]:
    """By name; none before the detector is ready. Raises NotFound."""
    detectors.get(session, detector_id)
    return [_describe_artifact(row) for row in artifacts.of_detectors(session, [detector_id])]


def find_artifact(session: Session, detector_id: UUID, name: str) -> Artifact:
    """Raises NotFound, and DetectorNotReady before there is any."""
    ready(session, detector_id)
    return artifacts.named(session, detector_id, name)


def _described(session: Session, rows: Sequence[Row[Detector, Job]]) -> list[schemas.Detector]:
    """Two queries, however many detectors."""
    found: dict[UUID, list[Artifact]] = {}
    for artifact in artifacts.of_detectors(session, [detector.id for detector, _ in rows]):
        found.setdefault(artifact.detector_id, []).append(artifact)
    at = now(session)
    return [
        _describe(detector, job_answers.describe(job, at), found.get(detector.id, []))
        for detector, job in rows
    ]


def _describe(row: Detector, job: schemas.Job, files: Sequence[Artifact]) -> schemas.Detector:
    return schemas.Detector(
        id=row.id,
        dataset_id=row.dataset_id,
        version=row.version,
        name=row.name,
        method=cast(Literal["funad", "cdd"], row.method),
        options=row.options,
        state=STATES.get(job.state, "training"),
        created_at=row.created_at,
        job=job,
        lineage=None if row.lineage is None else schemas.Lineage.model_validate(row.lineage),
        calibration=(
            None if row.calibration is None else schemas.CalibrationCard.model_validate(row.calibration)
        ),
        curve=[schemas.CurvePoint.model_validate(point) for point in row.curve or []],
        artifacts=[_describe_artifact(file) for file in files],
    )


def _describe_artifact(row: Artifact) -> schemas.Artifact:
    return schemas.Artifact(
        name=row.name,
        media_type=row.media_type,
        bytes=row.bytes,
        sha256=row.sha256,
        schema_version=row.schema_version,
        created_at=row.created_at,
        url=f"/detectors/{row.detector_id}/artifacts/{row.name}",
    )
