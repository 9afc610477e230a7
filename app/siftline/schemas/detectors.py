"""Detectors: how they are trained, what they are, what they say of an image."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.schemas.common import Number, Probability, Strict, Text
from siftline.schemas.jobs import Job

DetectorState = Literal["training", "ready", "failed", "cancelled"]
ImageVerdict = Literal["ok", "review", "defect"]


class TrainOptions(Strict):
    """What every method takes. Everything has a default that needs no thought."""

    backbone: Text | None = Field(
        None, max_length=100, description="Preset name; the purification's if unset."
    )
    seed: Annotated[int, Number] = Field(0, ge=0, lt=2**31)
    target_fpr: Annotated[float, Number] = Field(
        0.01, gt=0, le=0.5, description="Share of good images that may be called defect."
    )
    review_fpr: Annotated[float, Number] = Field(
        0.05, gt=0, le=0.5, description="Share of good images that may be called at least review."
    )
    max_minutes: Annotated[float, Field(gt=0, le=10_000), Number] | None = Field(
        None,
        description="Training stops there with what it has; calibration comes on top. A training whose "
        "worker died starts counting anew.",
    )
    max_steps: Annotated[int, Field(ge=1, le=10**8), Number] | None = Field(
        None, description="Optimiser steps of the final model."
    )


class FunadOptions(TrainOptions):
    """FUN-AD (arXiv 2411.16110)."""

    faithful: bool = Field(
        False,
        strict=True,
        description="By the release's rules, for comparison; 60 steps unless `max_steps` is set.",
    )


class CddOptions(TrainOptions):
    """Cross-domain distillation (arXiv 2508.18007). What the paper leaves open is an option here."""

    aggregation: bool = Field(True, strict=True, description="Off: plain reverse distillation.")
    domains: Annotated[int, Number] = Field(3, ge=2, le=10, description="K disjoint domains.")
    redraw: bool = Field(
        False,
        strict=True,
        description="Draw the domains anew each epoch, their students starting as copies of the global one. "
        "Off: fixed domains, each with a student of its own throughout.",
    )
    trim: Annotated[float, Number] = Field(
        0.2, ge=0, le=0.5, description="Share of each domain, the most suspect, that its student skips."
    )
    targets: Literal["suspects", "all"] = Field(
        "suspects",
        description="Of which images the global student learns what other domains' students draw instead of "
        "what the teacher sees: of those skipped, or of all.",
    )
    merge: Literal["mean", "least_similar"] = Field(
        "mean", description="How the other domains' students are merged, place by place."
    )
    teacher_weight: Annotated[float, Number] = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of the teacher itself where the students agree with it; 0: none.",
    )
    epochs: Annotated[int, Field(ge=1, le=1000), Number] | None = Field(
        None, description="Unset: as many as make some hundred steps. The base method has 200."
    )
    batch: Annotated[int, Number] = Field(16, ge=2, le=256, description="Tiles a step.")
    learning_rate: Annotated[float, Number] = Field(
        5e-3, gt=0, le=1, description="Falls to zero as a cosine."
    )
    blocks: Annotated[int, Number] = Field(
        1, ge=1, le=6, description="Residual blocks a stage of the student. The base method has three to six."
    )


class _NewDetector(Strict):
    dataset_id: UUID
    version: Annotated[int, Field(ge=1, lt=2**31), Number] | None = Field(
        None, description="Purification version; the newest if unset."
    )
    name: Text | None = Field(None, min_length=1, max_length=200)


class NewFunad(_NewDetector):
    method: Literal["funad"]
    options: FunadOptions = FunadOptions()


class NewCdd(_NewDetector):
    method: Literal["cdd"]
    options: CddOptions = CddOptions()


NewDetector = Annotated[NewFunad | NewCdd, Field(discriminator="method")]


class Lineage(BaseModel):
    """Where a detector comes from: enough to train it again."""

    dataset_id: UUID
    version: int
    images: int
    images_sha256: str = Field(description="Over the sorted sha256 of the images it was trained on.")
    review_revision: int = Field(description="Human decisions up to this one were heeded.")
    options: dict[str, Any]
    code_version: str
    backbone: dict[str, Any] = Field(description="Name, fingerprint and the weights' sha256.")
    libraries: dict[str, str]


class CalibrationCard(BaseModel):
    """How scores became verdicts."""

    method: str
    n: int = Field(description="Good images the thresholds rest on.")
    good_set_aside: float | None = Field(
        None,
        description="Good images to be expected among the suspects that were left out and not looked at.",
    )
    suspects_heeded: int | None = Field(
        None,
        description="Of the n: suspects that count as good, of the lowest-scoring as many as are expected to"
        " be (good_set_aside); where a part of the clean images calibrates, that part of them. None on older"
        " cards, whose thresholds have not seen their like.",
    )
    in_sample: bool = Field(description="Whether the model had seen them: then p-values flatter.")
    version: int = Field(description="Purification version the images are of.")
    date: datetime
    target_fpr: Probability
    review_fpr: Probability
    threshold: float
    review_threshold: float


class CurvePoint(BaseModel):
    step: int
    loss: float


class Artifact(BaseModel):
    name: str
    media_type: str
    bytes: int
    sha256: str
    schema_version: int
    created_at: datetime
    url: str


class Detector(BaseModel):
    id: UUID
    dataset_id: UUID
    version: int
    name: str
    method: Literal["funad", "cdd"]
    options: dict[str, Any]
    state: DetectorState
    created_at: datetime
    job: Job
    lineage: Lineage | None
    calibration: CalibrationCard | None
    curve: list[CurvePoint]
    artifacts: list[Artifact]


class DetectorCreated(BaseModel):
    detector: Detector
    job: Job


class DetectorRef(BaseModel):
    id: UUID
    name: str
    method: str
    version: int = Field(description="Purification version it was trained on.")


class ScoredImage(BaseModel):
    """High = anomalous. `p_value`: share of good images that score at least this much."""

    name: str
    sha256: str
    score: float
    p_value: Probability
    threshold: float
    verdict: ImageVerdict
    map_url: str | None = Field(None, description="With `explain=map`: the heat map as a PNG data URL.")


class RejectedImage(BaseModel):
    name: str
    code: str
    reason: str


class ScoreAnswer(BaseModel):
    detector: DetectorRef
    calibration: CalibrationCard
    items: list[ScoredImage]
    rejected: list[RejectedImage] = Field(
        description="Files that are no readable images; never silently left out."
    )


class ScoreJobCreated(BaseModel):
    """The answer to more images than are scored at once: `GET /jobs/{id}/scores` has them when it is done."""

    job: Job
