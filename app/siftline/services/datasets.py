"""Datasets as users see them, made, listed and deleted."""

from collections.abc import Sequence
from itertools import islice
from uuid import UUID

from sqlalchemy.orm import Session, sessionmaker

from siftline import schemas
from siftline.dispatch import Bell, enqueue, silent
from siftline.domain.errors import Conflict
from siftline.domain.jobs import JobKind
from siftline.services import estimates, ingest
from siftline.services import jobs as job_answers
from siftline.settings import Settings
from siftline.store import (
    cursor,
    datasets,
    detectors,
    features,
    idempotency,
    images,
    job_lists,
    jobs,
    purifications,
    receipts,
    work,
)
from siftline.store.blobs import Blobs, content_of, dataset_prefix
from siftline.store.models import Dataset, Job
from siftline.store.scope import workspace_of
from siftline.store.session import now, reading

NAMED_DETECTORS = 5
HASHES_AT_ONCE = 1000


class DatasetBusy(Conflict):
    code = "dataset-busy"
    title = "The dataset is being worked on"


class DatasetHasDetectors(Conflict):
    code = "dataset-has-detectors"
    title = "Detectors were trained on the dataset"


def create(
    session: Session,
    dataset_id: UUID,
    new: schemas.NewDataset,
    files: Sequence[ingest.Examined],
    *,
    bell: Bell,
    settings: Settings,
    purify: bool = True,
) -> schemas.DatasetCreated:
    """A dataset of files whose bytes are stored. Without one good image it stays empty and has no job.

    Not `purify` means: not with this batch, whatever the dataset's options say.
    """
    options = new.options.model_dump(mode="json")
    dataset = Dataset(
        id=dataset_id,
        workspace=workspace_of(session),
        name=new.name,
        created_at=now(session),
        options=options,
    )
    session.add(dataset)
    session.flush()
    return _take_in(session, dataset, files, bell if purify else None, settings)


def add_images(
    session: Session,
    dataset_id: UUID,
    files: Sequence[ingest.Examined],
    *,
    bell: Bell,
    settings: Settings,
    purify: bool = True,
) -> schemas.DatasetCreated:
    """One more batch. Raises NotFound.

    The new job waits behind one that is running: that one may have read the list of images already.
    """
    dataset = datasets.lock(session, dataset_id)
    return _take_in(session, dataset, files, bell if purify else None, settings)


def _take_in(
    session: Session,
    dataset: Dataset,
    files: Sequence[ingest.Examined],
    bell: Bell | None,
    settings: Settings,
) -> schemas.DatasetCreated:
    """Without a `bell` no purification is started."""
    recorded = ingest.record(session, dataset.id, files)
    options = schemas.DatasetOptions.model_validate(dataset.options)
    job = None
    if bell is not None and options.purify and recorded.accepted:
        job = _purification(session, dataset, job_params(options, settings), bell, settings)
    return schemas.DatasetCreated(
        dataset=describe(session, [dataset])[0],
        receipts=[schemas.Receipt.model_validate(row) for row in recorded.receipts],
        job=None if job is None else job_answers.describe(job, now(session)),
    )


def _purification(
    session: Session, dataset: Dataset, params: dict[str, object], bell: Bell, settings: Settings
) -> Job:
    """One that no worker has room for has failed already: the images are in all the same."""
    backbone = str(params["backbone"])
    lane = estimates.lane_of(JobKind.PURIFY, backbone, settings)
    estimate = estimates.of_purification(session, dataset.id, backbone)
    refusal = estimates.refusal(session, estimate, lane, settings)
    job = enqueue(
        *(session, bell if refusal is None else silent, dataset.id, JobKind.PURIFY, params),
        lane=lane,
        estimate=estimate,
    )
    return job if refusal is None else jobs.refuse(session, job, refusal)


def job_params(options: schemas.PurifyOptions, settings: Settings) -> dict[str, object]:
    """The options a run is given: with the server's backbone filled in, so that a rerun means the same."""
    chosen = {"backbone": options.backbone or settings.backbone}
    return options.model_dump(mode="json", exclude={"purify"}) | chosen


def describe(session: Session, rows: Sequence[Dataset]) -> list[schemas.Dataset]:
    """A handful of queries, however many datasets."""
    ids = [row.id for row in rows]
    rejected = receipts.rejected_counts(session, ids)
    versions = purifications.latest_versions(session, ids)
    newest = job_lists.newest_of_datasets(session, ids)
    at = now(session)
    return [
        schemas.Dataset(
            id=row.id,
            name=row.name,
            created_at=row.created_at,
            options=schemas.DatasetOptions.model_validate(row.options),
            images=row.images,
            rejected_files=rejected.get(row.id, 0),
            latest_version=versions.get(row.id),
            job=job_answers.describe(newest[row.id], at) if row.id in newest else None,
        )
        for row in rows
    ]


def get(session: Session, dataset_id: UUID) -> schemas.Dataset:
    """Raises NotFound."""
    return describe(session, [datasets.get(session, dataset_id)])[0]


def page(session: Session, *, after: str | None, limit: int) -> schemas.Page[schemas.Dataset]:
    """Newest first."""
    before = None if after is None else cursor.decode(after, cursor.AfterId).id
    rows = datasets.page(session, before=before, limit=limit + 1)
    more = cursor.encode(cursor.AfterId(id=rows[limit - 1].id)) if len(rows) > limit else None
    return schemas.Page(items=describe(session, rows[:limit]), next_cursor=more)


def receipts_page(
    session: Session, dataset_id: UUID, *, status: str | None, after: str | None, limit: int
) -> schemas.Page[schemas.Receipt]:
    """Oldest first. Raises NotFound."""
    datasets.get(session, dataset_id)
    last = None if after is None else cursor.decode(after, cursor.AfterId).id
    rows = receipts.page(session, dataset_id, status=status, after=last, limit=limit + 1)
    more = cursor.encode(cursor.AfterId(id=rows[limit - 1].id)) if len(rows) > limit else None
    items = [schemas.Receipt.model_validate(row, from_attributes=True) for row in rows[:limit]]
    return schemas.Page(items=items, next_cursor=more)


def delete(session: Session, dataset_id: UUID) -> None:
    """Forget the dataset; `delete_bytes` and `delete_derived` once this is committed.

    Raises NotFound, DatasetBusy while a job of it is not finished, and DatasetHasDetectors: somebody's gate
    may hang on one, so they are deleted on purpose.
    """
    datasets.lock(session, dataset_id)
    job = job_lists.unfinished_of_dataset(session, dataset_id)
    if job is not None:
        described = job_answers.describe(job, now(session))
        raise DatasetBusy(f"Job {job.id} is {job.state}: cancel it and wait until it is over.", job=described)
    trained = detectors.of_dataset(session, dataset_id, limit=NAMED_DETECTORS + 1)
    if trained:
        names = ", ".join(f"{row.id} ({row.name})" for row in trained[:NAMED_DETECTORS])
        others = " and others" if len(trained) > NAMED_DETECTORS else ""
        raise DatasetHasDetectors(f"Delete its detectors first: {names}{others}.")
    datasets.delete(session, dataset_id)
    idempotency.forget_dataset(session, dataset_id)


def delete_bytes(blobs: Blobs, dataset_id: UUID) -> set[str]:
    """Its images and thumbnails. Returns the SHA-256 of the images."""
    hashes = set()
    for blob in list(blobs.listed(dataset_prefix(dataset_id))):
        blobs.delete(blob.key)
        found = content_of(blob.key)
        hashes |= set() if found is None else {found[1]}
    return hashes


def delete_derived(
    settings: Settings, sessions: sessionmaker[Session], dataset_id: UUID, hashes: set[str]
) -> None:
    """What jobs keep of it on this machine: features of its images, unless another dataset has the same, and
    pieces of work. Other machines' workers do the same when they collect garbage.
    """
    work.let_go(settings.work_dir, dataset_id)
    rest = iter(hashes)
    while some := set(islice(rest, HASHES_AT_ONCE)):
        with reading(sessions) as session:
            shared = images.known_anywhere(session, some)
        features.remove(settings.features_dir, some - shared)
