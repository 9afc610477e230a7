"""Jobs and problems."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.schemas.common import Probability


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


class Estimate(BaseModel):
    """What the job was thought to need before it ran; null where nothing was known.

    The seconds are of an idle machine, and without the wait for its turn.
    """

    seconds: float | None
    memory_bytes: int | None
    disk_bytes: int | None
    basis: str


class Job(BaseModel):
    id: UUID
    dataset_id: UUID
    detector_id: UUID | None = Field(description="The detector that is trained or scores, if any.")
    kind: Literal["purify", "recut", "similar", "train", "score"]
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
    estimate: Estimate | None = None
