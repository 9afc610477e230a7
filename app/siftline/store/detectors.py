"""Detectors, each with the job that trains it: that job's state is the detector's."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Row, func, select, update
from sqlalchemy import delete as delete_rows
from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound
from siftline.domain.jobs import FINISHED
from siftline.store.models import Dataset, Detector, Image, Job, Purification, PurifiedItem


def get(session: Session, detector_id: UUID) -> Row[Detector, Job]:
    """The detector and its training job. Raises NotFound."""
    query = select(Detector, Job).join(Job, Job.id == Detector.job_id).where(Detector.id == detector_id)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFound(f"There is no detector {detector_id}.")
    return row


def lock(session: Session, detector_id: UUID) -> Detector:
    """The detector, not to be deleted or given a job by anybody else before this transaction ends.

    Raises NotFound.
    """
    detector = session.scalar(select(Detector).where(Detector.id == detector_id).with_for_update())
    if detector is None:
        raise NotFound(f"There is no detector {detector_id}.")
    return detector


def page(
    session: Session, *, dataset_id: UUID | None, before: UUID | None, limit: int
) -> Sequence[Row[Detector, Job]]:
    """Newest first, each with its training job."""
    query = select(Detector, Job).join(Job, Job.id == Detector.job_id)
    if dataset_id is not None:
        query = query.where(Detector.dataset_id == dataset_id)
    if before is not None:
        query = query.where(Detector.id < before)
    return session.execute(query.order_by(Detector.id.desc()).limit(limit)).all()


def of_dataset(session: Session, dataset_id: UUID, limit: int) -> Sequence[Detector]:
    """At most `limit` detectors trained on the dataset, oldest first."""
    query = select(Detector).where(Detector.dataset_id == dataset_id)
    return session.scalars(query.order_by(Detector.id).limit(limit)).all()


def unfinished_job(session: Session, detector_id: UUID) -> Job | None:
    """A job that trains the detector or scores with it and is not over, if there is one."""
    query = select(Job).where(Job.detector_id == detector_id, Job.state.not_in(FINISHED))
    return session.scalar(query.limit(1))


def delete(session: Session, detector_id: UUID) -> None:
    """The detector and its artifacts. Its jobs stay as history and point at it no more."""
    session.execute(update(Job).where(Job.detector_id == detector_id).values(detector_id=None))
    session.execute(delete_rows(Detector).where(Detector.id == detector_id))


def verdict_counts(session: Session, purification_id: UUID) -> Sequence[Row[str, str | None, int]]:
    """Rows of (machine's verdict, person's decision, number of images)."""
    query = (
        select(PurifiedItem.verdict, Image.review, func.count())
        .join(Image, Image.id == PurifiedItem.image_id)
        .where(PurifiedItem.purification_id == purification_id)
        .group_by(PurifiedItem.verdict, Image.review)
    )
    return session.execute(query).all()


def reviewed_items(
    session: Session, dataset_id: UUID, version: int
) -> Sequence[Row[UUID, str, str, float, str | None, list[str], int]]:
    """Rows of (image_id, sha256, verdict, p_anomalous, review, near_duplicates, dataset's review_revision).

    One statement, so that the decisions and their revision are of one moment on any database.
    """
    query = (
        select(
            Image.id,
            Image.sha256,
            PurifiedItem.verdict,
            PurifiedItem.p_anomalous,
            Image.review,
            PurifiedItem.near_duplicates,
            Dataset.review_revision,
        )
        .join(Purification, Purification.id == PurifiedItem.purification_id)
        .join(Image, Image.id == PurifiedItem.image_id)
        .join(Dataset, Dataset.id == Purification.dataset_id)
        .where(Purification.dataset_id == dataset_id, Purification.version == version)
        .order_by(Image.sha256)
    )
    return session.execute(query).all()
