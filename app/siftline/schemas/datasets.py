"""Datasets, their options, their images."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.schemas.common import Number, Probability, ReviewState, Strict, Text, Verdict
from siftline.schemas.jobs import Job


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
    submodels: Literal["memory", "student"] = Field(
        "memory",
        description="What LLBNAD asks: memories of patches, or distillation students as its paper has them. "
        "Students take minutes more and ranked worse on the sets we measured (benchmarks/LOG.md).",
    )
    cost_ratio: Annotated[float, Number] = Field(
        4.0, gt=0, le=100, description="Cost of keeping a bad image over that of losing a good one."
    )
    contamination_hint: Annotated[Probability, Number] | None = Field(
        None, description="A prior guess of the share of bad images: a hint, never a fixed fraction."
    )


class DatasetOptions(PurifyOptions):
    purify: bool = Field(True, strict=True, description="Start purifying as soon as the images are in.")


class Source(Strict):
    uri: str = Field(
        pattern=r"^(file://|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/[^\x00-\x1f\x7f]*$",
        max_length=4096,
        description="`file:///folder-or-file`, percent-encoded, below a folder of SIFTLINE_SOURCE_ROOTS; or "
        "`s3://bucket/folder-or-object`, as it is and never percent-encoded, in what SIFTLINE_SOURCE_BUCKETS "
        "names. The server reads it; archives are unpacked.",
        examples=["s3://line-camera/2026-11-22", "file:///data/line-camera/2026-11-22"],
    )


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
    review: ReviewState | None
    content_url: str
    thumbnail_url: str
    heatmap_url: str | None
