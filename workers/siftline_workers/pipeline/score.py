"""The job `score`: a large request's images in, a row of its outcome for each. Needs no torch."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from sqlalchemy.orm import Session

from siftline.domain.errors import NotFound, OutOfResources
from siftline.scoring.detector import LoadedDetector
from siftline.scoring.network import threads
from siftline.services import score_jobs, scoring
from siftline.services.scoring import Sent
from siftline.store import job_scores
from siftline.store.blobs import Blobs, scoring_key
from siftline.store.blobs_open import open_blobs
from siftline.store.models import JobScore
from siftline.store.session import reading, retrying
from siftline_workers.running import DATABASE_PATIENCE_S, RunningJob

AT_ONCE = 4 * threads()
"""Files between two looks at whether the job was cancelled; a killed worker scores as many again."""
STAGE = "score"


def run(job: RunningJob) -> None:
    """Score whatever no earlier attempt has scored, by the same code as the service.

    Raises NotFound and DetectorNotReady when the detector is gone, and lets Cancelled and LostJob pass.
    """
    job.report("load", 0.0)
    if job.detector_id is None:
        raise NotFound("The detector was deleted before it could score.")
    detector, blobs = scoring.load(job.sessions, job.detector_id), open_blobs(job.settings)
    with ThreadPoolExecutor(threads() + 1) as pool:
        while files := _waiting(job):
            rows = list(pool.map(partial(_looked_at, job, detector, blobs), files))
            write = partial(job_scores.write, rows=rows)
            retrying(job.sessions, write, patience_s=DATABASE_PATIENCE_S)
            job.report(STAGE, _progress(job))
    job.succeed(lambda session: _result(session, job, detector))


def _waiting(job: RunningJob) -> Sequence[JobScore]:
    with reading(job.sessions) as session:
        return job_scores.waiting(session, job.id, limit=AT_ONCE)


def _looked_at(job: RunningJob, detector: LoadedDetector, blobs: Blobs, file: JobScore) -> dict[str, object]:
    try:
        with blobs.open(scoring_key(job.id, file.number)) as opened:
            content = opened.read()
    except FileNotFoundError as error:
        raise OutOfResources("The images to score are missing from the storage; send them again.") from error
    sent = Sent(file.name, content, len(content), file.sha256)
    return score_jobs.found(job.id, file.number, scoring.score(detector, sent, job.settings))


def _progress(job: RunningJob) -> float:
    with reading(job.sessions) as session:
        counts = job_scores.counts(session, job.id)
    return 1.0 - counts.get("waiting", 0) / sum(counts.values())


def _result(session: Session, job: RunningJob, detector: LoadedDetector) -> dict[str, Any]:
    """With the calibration, because the scores outlive the detector."""
    return {
        "detector": detector.ref.model_dump(mode="json"),
        "calibration": detector.card.model_dump(mode="json"),
        "counts": job_scores.counts(session, job.id),
    }
