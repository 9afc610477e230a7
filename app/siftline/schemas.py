"""The contract in pydantic: what the API takes and gives, shared by server, client and command line."""

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

T = TypeVar("T")
Verdict = Literal["clean", "suspect"]
Interval = tuple[float, float]
# Control characters have no place in names, and PostgreSQL cannot store NUL.
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]


def _number(value: object) -> object:
    if isinstance(value, bool | str):
        raise ValueError("a number is expected")  # noqa: TRY004 - pydantic reports only this one as invalid
    return value


# Pydantic takes true for 1 and "1" for 1; JSON has types, and a typo should not pass for one of them.
Number = BeforeValidator(_number)
Probability = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Problem(BaseModel):
    """RFC 9457 `application/problem+json`: the body of every 4xx and 5xx."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[dict[str, Any]] = []
    job: "Job | None" = None


class PurifyOptions(Strict):
    """How a dataset is purified. Everything has a default that needs no thought."""

    backbone: Text | None = Field(
        None, max_length=100, description="Preset name; the server's default if unset."
    )
    seed: Annotated[int, Number] = Field(0, ge=0, lt=2**31)
    subsets: Annotated[int, Number] = Field(
        5, ge=2, le=20, description="K disjoint subsets per partition (LLBNAD)."
    )
    partitions: Annotated[int, Number] = Field(4, ge=1, le=32, description="R random partitions (LLBNAD).")
    cost_ratio: Annotated[float, Number] = Field(
        4.0, gt=0, le=100, description="Cost of keeping a bad image over that of losing a good one."
    )
    contamination_hint: Annotated[Probability, Number] | None = Field(
        None, description="A prior guess of the share of bad images: a hint, never a fixed fraction."
    )


class DatasetOptions(PurifyOptions):
    purify: bool = Field(True, strict=True, description="Start purifying as soon as the images are in.")


class Source(Strict):
    uri: str = Field(pattern=r"^file:///[^\x00-\x1f\x7f]*$", max_length=4096)


class NewDataset(Strict):
    """The fields of a multipart upload beside its `files`."""

    name: Text = Field(min_length=1, max_length=200)
    options: DatasetOptions = DatasetOptions()


class DatasetFromSource(NewDataset):
    source: Source


class Receipt(BaseModel):
    name: str
    sha256: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None


class Job(BaseModel):
    id: UUID
    dataset_id: UUID
    kind: Literal["purify"]
    state: Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]
    stage: str | None
    progress: Probability
    eta_s: float | None
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    result: dict[str, Any] | None
    error: Problem | None


class Dataset(BaseModel):
    id: UUID
    name: str
    created_at: datetime
    options: DatasetOptions
    images: int
    rejected_files: int
    latest_version: int | None
    job: Job | None = Field(description="The newest job of the dataset.")


class DatasetCreated(BaseModel):
    dataset: Dataset
    receipts: list[Receipt]
    job: Job | None


class Image(BaseModel):
    id: UUID
    dataset_id: UUID
    name: str
    sha256: str
    bytes: int
    width: int
    height: int
    mode: str
    format: str
    created_at: datetime
    score: float | None
    p_anomalous: float | None
    verdict: Verdict | None
    review: Literal["keep", "reject"] | None
    content_url: str
    thumbnail_url: str
    heatmap_url: str | None


class Contamination(BaseModel):
    estimate: Probability
    interval: Interval
    evidence: Literal["none", "weak", "strong"]


class Cut(BaseModel):
    score: float
    rule: str
    uncertain: bool


class Counts(BaseModel):
    clean: int
    suspect: int
    needs_review: int
    rejected_files: int


class PurifiedItem(BaseModel):
    image_id: UUID
    name: str
    sha256: str
    rank: int
    score: float
    p_anomalous: Probability
    interval: Interval
    verdict: Verdict
    needs_review: bool
    confidence: Probability
    signals: dict[str, float]
    review: Literal["keep", "reject"] | None
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
    counts: Counts
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


class Page(BaseModel, Generic[T]):  # PEP 695 syntax needs Python 3.12
    items: list[T]
    next_cursor: str | None


class Health(BaseModel):
    status: Literal["ok", "not ready"]
    version: str
    checks: dict[str, str] = {}
