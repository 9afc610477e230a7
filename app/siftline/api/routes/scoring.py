"""Detectors at work: images in, verdicts out."""

from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from siftline import schemas
from siftline.access.deps import OwnDetector, Parts, PartsDep, Reading
from siftline.access.principal import PrincipalDep
from siftline.api import accept, score_body
from siftline.api.idempotency import Answer, Key, Once
from siftline.api.parameters import Cursor, Limit
from siftline.api.problems import raises
from siftline.domain.errors import DetectorNotReady, NotAnImage, Unprocessable
from siftline.scoring.line import ScoringStandsStill
from siftline.services import score_jobs, scoring
from siftline.services.score_jobs import Files
from siftline.services.scoring import Outcome

router = APIRouter(tags=["scoring"])

Explain = Annotated[Literal["none", "map"], Query(description="`map`: a heat map of each image as PNG.")]
Name = Annotated[
    str, Query(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$", description="Of an image that is the body.")
]
ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": schemas.ScoreJobCreated, "description": "So many images that they became a job"},
    **raises(
        score_body.EmptyBody,
        DetectorNotReady,
        accept.UnsupportedMediaType,
        NotAnImage,
        Unprocessable,
        scoring.DetectorDamaged,
        ScoringStandsStill,
    ),
}


@router.post("/detectors/{detector_id}/score", response_model=schemas.ScoreAnswer, responses=ANSWERS)
async def score(
    request: Request,
    detector_id: UUID,
    parts: PartsDep,
    who: PrincipalDep,
    *,
    explain: Explain = "none",
    name: Name = "image",
    key: Key = None,
) -> Response:
    """Score one image (the body), or files and archives (multipart). Many become a job: 202."""
    is_multipart = score_body.is_multipart(request)
    await parts.detectors.warm(own := (who.workspace, detector_id))  # before gigabytes are read for nothing
    if not is_multipart:
        async with score_body.one_image(request, parts, name) as sent:
            answer = await _scored(parts, own, [sent], draw=explain == "map")
        return _json(scoring.require_image(answer))
    async with accept.spooling(parts) as folder:
        files, fingerprint = await score_body.files(request, parts, folder)
        if len(files) <= parts.settings.score_images:
            return _json(await _scored(parts, own, files, draw=explain == "map"))
        if explain == "map":
            raise Unprocessable(f"Maps are drawn of at most {parts.settings.score_images} images at once.")
        once = accept.once(parts, request, key, fingerprint)
        return await accept.answered(parts, partial(_score_later, parts, detector_id, files, once))


async def _scored(parts: Parts, own: OwnDetector, files: Files, *, draw: bool) -> schemas.ScoreAnswer:
    async with parts.detectors.using(own) as detector:
        works = [partial(scoring.score, detector, file, parts.settings, draw=draw) for file in files]
        with parts.scoring.places(len(works)):
            answer = scoring.answer(detector, await parts.scoring.run(works))
        found = [(image.p_value, image.verdict) for image in answer.items]
        parts.metrics.drift.scored(detector.ref.id, len(detector.calibration.scores), found)
        return answer


def _score_later(parts: Parts, detector_id: UUID, files: Files, once: Once) -> Answer:
    """Blocking; in a thread. Bytes first: a job must never wait for files that a crash has lost."""
    if (earlier := once.earlier()) is not None:
        return earlier
    job_id = uuid7()
    score_jobs.store_bytes(parts.blobs, job_id, files)

    def work(session: Session) -> Answer:
        created = score_jobs.start(session, detector_id, job_id, files, bell=parts.bell)
        return Answer(202, created.model_dump(mode="json"), {"Location": f"/jobs/{job_id}"})

    answer = once.do(work)
    if answer.replayed:
        score_jobs.delete_bytes(parts.blobs, job_id)
    return answer


def _json(answer: BaseModel) -> Response:
    # Written at once: through FastAPI's own way every number would be checked and copied twice more.
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/jobs/{job_id}/scores", responses=raises(score_jobs.ScoresNotReady))
def list_scores(
    session: Reading, job_id: UUID, cursor: Cursor = None, limit: Limit = 100
) -> schemas.Page[Outcome]:
    """What a scoring job found of every file, in the order they came; 409 before it has succeeded."""
    return score_jobs.page(session, job_id, after=cursor, limit=limit)
