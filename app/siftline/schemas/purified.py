"""The ranked split of a dataset, and what is drawn and compared of it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.schemas.common import Evidence, Interval, Probability, ReviewState, Verdict
from siftline.schemas.datasets import PurifyOptions


class Contamination(BaseModel):
    estimate: Probability
    interval: Interval
    evidence: Evidence


class Cut(BaseModel):
    score: float
    rule: str
    uncertain: bool


class Counts(BaseModel):
    clean: int
    suspect: int
    needs_review: int
    rejected_files: int


class Reviewed(BaseModel):
    """What people have decided about a version's images so far; the version's own `counts` stay."""

    keep: int
    reject: int
    clean: int = Field(
        description="Images that count as clean: kept, or clean to the machine and not rejected."
    )
    suspect: int


class PurifiedItem(BaseModel):
    image_id: UUID
    name: str
    sha256: str
    rank: int
    score: float
    p_anomalous: Probability
    interval: Interval
    verdict: Verdict = Field(description="The machine's; `review` outranks it.")
    needs_review: bool
    confidence: Probability
    signals: dict[str, float]
    review: ReviewState | None
    reviewed_by: str | None
    reviewed_at: datetime | None
    cluster: int | None = Field(
        description="Suspects that look alike share a number; unset for clean images."
    )
    thumbnail_url: str
    heatmap_url: str
    near_duplicates: list[UUID]


class Purified(BaseModel):
    """The ranked split: high score = suspect, rank 1 = most suspect."""

    dataset_id: UUID
    version: int
    created_at: datetime
    options: PurifyOptions
    backbone: dict[str, Any]
    contamination: Contamination
    cut: Cut
    counts: Counts = Field(description="The machine's verdicts; they never change.")
    reviewed: Reviewed
    items: list[PurifiedItem]
    next_cursor: str | None


class HistogramBin(BaseModel):
    lo: float
    hi: float
    count: int


class Histogram(BaseModel):
    dataset_id: UUID
    version: int
    cut: Cut
    bins: list[HistogramBin]


class Diff(BaseModel):
    """What changed between two versions of one dataset, by image id."""

    dataset_id: UUID
    from_version: int
    to_version: int
    newly_suspect: list[UUID]
    newly_cleared: list[UUID]
    added: list[UUID]
    added_suspect: list[UUID] = Field(
        [], description="Those of `added` that are suspect. Older servers do not tell."
    )


class Box(BaseModel):
    """Part of an image, in fractions of its width and height."""

    left: Probability
    top: Probability
    right: Probability
    bottom: Probability


class NeighbourPatch(BaseModel):
    """One of the patches of other things that come nearest to an image's oddest patch."""

    image_id: UUID
    box: Box
    distance: float


class Explanation(BaseModel):
    """Why an image is ranked where it is: its oddest patch beside the nearest patches of other things."""

    image_id: UUID
    version: int
    box: Box
    distance: float
    typical_distance: float = Field(description="Median over the set of the distance of an oddest patch.")
    neighbours: list[NeighbourPatch]
