"""More images than a request should wait for: kept as blobs, scored by a worker, read page by page."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.dispatch import Bell, enqueue
from siftline.domain.errors import Conflict, NotFound
from siftline.domain.jobs import FINISHED, JobKind
from siftline.services import detection, estimates
from siftline.services import jobs as job_answers
from siftline.services.archives import RefusedFile
from siftline.services.ingest import REASON_CHARACTERS, STORED_AT_ONCE, printable
from siftline.services.scoring import Outcome, Sent
from siftline.store import cursor, detectors, job_scores
from siftline.store.blobs import Blobs, scoring_key, scoring_prefix
from siftline.store.models import JobScore
from siftline.store.session import now

Files = Sequence[Sent | RefusedFile]


class ScoresNotReady(Conflict):
    code = "scores-not-ready"
    title = "The job has no scores to show"


def store_bytes(blobs: Blobs, job_id: UUID, files: Files) -> None:
    """Make blobs of the files, before there is a job; `start` numbers them the same."""
    wanted = {
        scoring_key(job_id, number): file.source
        for number, file in _numbered(files)
        if isinstance(file, Sent) and isinstance(file.source, Path)
    }
    with ThreadPoolExecutor(STORED_AT_ONCE) as threads:  # a file system flushes many as fast as one
        for _ in threads.map(lambda key: blobs.put(key, wanted[key]), wanted):
            pass


def delete_bytes(blobs: Blobs, job_id: UUID) -> None:
    for blob in list(blobs.listed(scoring_prefix(job_id))):
        blobs.delete(blob.key)


def start(
    session: Session, detector_id: UUID, job_id: UUID, files: Files, *, bell: Bell
) -> schemas.ScoreJobCreated:
    """A job for files whose bytes are stored. Raises NotFound, DetectorNotReady."""
    detector = detectors.lock(session, detector_id)
    detection.ready(session, detector_id)
    job = enqueue(
        *(session, bell, detector.dataset_id, JobKind.SCORE, {}),
        detector_id=detector_id,
        job_id=job_id,
        estimate=estimates.of_scoring(session, len(files)),
    )
    rows = [{"job_id": job_id, "number": number, **_row(file)} for number, file in _numbered(files)]
    job_scores.add_all(session, rows)
    return schemas.ScoreJobCreated(job=job_answers.describe(job, now(session)))


def _numbered(files: Files) -> Iterable[tuple[int, Sent | RefusedFile]]:
    return enumerate(files, start=1)


def _row(file: Sent | RefusedFile) -> dict[str, str | None]:
    reason = file.reason[:REASON_CHARACTERS] if isinstance(file, RefusedFile) else None
    return {"name": printable(file.name), "sha256": file.sha256 or "", "reason": reason}


def found(job_id: UUID, number: int, outcome: Outcome) -> dict[str, object]:
    """What a worker writes of one file; every row has the same columns."""
    key = {"job_id": job_id, "number": number}
    if isinstance(outcome, schemas.RejectedImage):
        reason = f"{outcome.code}: {outcome.reason}"[:REASON_CHARACTERS]
        return key | {"score": None, "p_value": None, "verdict": None, "reason": reason}
    told = {"score": outcome.score, "p_value": outcome.p_value, "verdict": outcome.verdict}
    return key | told | {"reason": None}


def page(session: Session, job_id: UUID, *, after: str | None, limit: int) -> schemas.Page[Outcome]:
    """In the order the files came. Raises NotFound, and ScoresNotReady before the job has succeeded."""
    job = job_answers.get(session, job_id)
    if job.kind != "score":
        raise NotFound(f"Job {job_id} scores nothing: it is of kind {job.kind}.")
    if job.state != "succeeded" or job.result is None:
        waits = {} if job.state in FINISHED else {"retry_after_s": job_answers.look_again_s(job)}
        raise ScoresNotReady(f"The job is {job.state}.", job=job, **waits)
    threshold = job.result["calibration"]["threshold"]
    start = 0 if after is None else cursor.decode(after, cursor.AfterNumber).number
    rows = job_scores.page(session, job_id, after=start, limit=limit + 1)
    more = cursor.AfterNumber(number=rows[limit - 1].number) if len(rows) > limit else None
    items = [_describe(row, threshold) for row in rows[:limit]]
    return schemas.Page(items=items, next_cursor=None if more is None else cursor.encode(more))


def _describe(row: JobScore, threshold: float) -> Outcome:
    if row.score is None or row.p_value is None:
        code, _, reason = (row.reason or "").partition(": ")
        return schemas.RejectedImage(name=row.name, code=code, reason=reason)
    return schemas.ScoredImage(
        name=row.name,
        sha256=row.sha256,
        score=row.score,
        p_value=row.p_value,
        threshold=threshold,
        verdict=cast(schemas.ImageVerdict, row.verdict),
    )
