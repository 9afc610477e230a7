"""What a detector says of images, one by one: for the request that waits and for the job that does not."""

import base64
import hashlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session, sessionmaker

from siftline import schemas
from siftline.domain.errors import NotAnImage, NotFound, SiftlineError
from siftline.imaging import ImageLimits, ImageRejected, decode_rgb, heatmap_png
from siftline.scoring.detector import ArtifactUnusable, Found, LoadedDetector, assemble
from siftline.services import detection
from siftline.services.archives import RefusedFile
from siftline.services.ingest import printable
from siftline.settings import Settings
from siftline.store import artifacts
from siftline.store.models import Artifact
from siftline.store.session import reading
from siftline.store.spool import SpooledFile

log = logging.getLogger(__name__)

MAP_SIDE = 512
"""Pixels of the longer side of a drawn map: 64 of them still make one answer."""

Outcome = schemas.ScoredImage | schemas.RejectedImage


class DetectorDamaged(SiftlineError):
    code = "detector-damaged"
    title = "The detector's stored model is damaged"


@dataclass(frozen=True, slots=True)
class Sent:
    """One file to score. `source` is its bytes, or where they are."""

    name: str
    source: bytes | Path
    size: int
    sha256: str


def in_memory(name: str, content: bytes) -> Sent:
    return Sent(name, content, len(content), hashlib.sha256(content).hexdigest())


def spooled(file: SpooledFile) -> Sent:
    return Sent(file.name, file.path, file.size, file.sha256)


def require(sessions: sessionmaker[Session], detector_id: UUID) -> None:
    """Raises NotFound, DetectorNotReady."""
    with reading(sessions) as session:
        detection.ready(session, detector_id)


def load(sessions: sessionmaker[Session], detector_id: UUID) -> LoadedDetector:
    """Blocks for a second or so. Raises NotFound, DetectorNotReady, DetectorDamaged."""
    with reading(sessions) as session:
        detector = detection.ready(session, detector_id)
        calibration = artifacts.named(session, detector_id, "calibration.json")
        model = artifacts.named(session, detector_id, "model.onnx")
    ref = schemas.DetectorRef(
        id=detector.id, name=detector.name, method=detector.method, version=detector.version
    )
    try:
        return assemble(ref, _content(sessions, calibration), _content(sessions, model))
    except (ArtifactUnusable, NotFound) as error:
        require(sessions, detector_id)  # deleted while it was read: that is the answer then
        log.exception("detector %s cannot be loaded", detector_id)
        raise DetectorDamaged(
            "What is stored of it is not what its training wrote: train it again."
        ) from error


def _content(sessions: sessionmaker[Session], artifact: Artifact) -> bytes:
    content = b"".join(artifacts.pieces(sessions, artifact))
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise ArtifactUnusable(f"{artifact.name} does not have its sha256")
    return content


def score(
    detector: LoadedDetector, sent: Sent | RefusedFile, settings: Settings, *, draw: bool = False
) -> Outcome:
    """Blocks while it decodes and runs the network. The same bytes always have the same outcome."""
    name = printable(sent.name)
    if isinstance(sent, RefusedFile):
        code, _, reason = sent.reason.partition(": ")
        return schemas.RejectedImage(name=name, code=code, reason=reason)
    if sent.size == 0:
        return schemas.RejectedImage(name=name, code="empty-file", reason="the file has no bytes")
    try:
        rgb = decode_rgb(sent.source, ImageLimits(max_pixels=settings.max_image_pixels), detector.tone)
    except ImageRejected as rejected:
        return schemas.RejectedImage(name=name, code=rejected.code, reason=rejected.detail)
    found = detector.look_at(rgb)
    if not math.isfinite(found.score):
        return schemas.RejectedImage(name=name, code="no-finite-score", reason="the detector gives no number")
    return schemas.ScoredImage(
        name=name,
        sha256=sent.sha256,
        score=found.score,
        p_value=detector.calibration.p_value(found.score),
        threshold=detector.calibration.threshold,
        verdict=detector.calibration.verdict(found.score),
        map_url=_map_url(detector, found, rgb) if draw else None,
    )


def _map_url(detector: LoadedDetector, found: Found, rgb: NDArray[np.uint8]) -> str:
    height, width = rgb.shape[:2]
    shrink = min(1.0, MAP_SIDE / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    png = heatmap_png(detector.scale.levels(found.heat), size, rgb)
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def answer(detector: LoadedDetector, outcomes: list[Outcome]) -> schemas.ScoreAnswer:
    return schemas.ScoreAnswer(
        detector=detector.ref,
        calibration=detector.card,
        items=[outcome for outcome in outcomes if isinstance(outcome, schemas.ScoredImage)],
        rejected=[outcome for outcome in outcomes if isinstance(outcome, schemas.RejectedImage)],
    )


def require_image(answer: schemas.ScoreAnswer) -> schemas.ScoreAnswer:
    """For a request that is one image. Raises NotAnImage."""
    for rejected in answer.rejected:
        raise NotAnImage(f"{rejected.code}: {rejected.reason}.")
    return answer
