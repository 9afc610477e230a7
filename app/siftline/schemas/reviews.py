"""What people decide about images."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from siftline.schemas.common import Number, Strict, Text, Verdict

DecisionWord = Literal["keep", "reject", "clear"]
ReviewFilter = Literal["keep", "reject", "any", "none"]
MOST_DECISIONS = 10_000
Finite = Annotated[float, Field(allow_inf_nan=False), Number]
_EITHER: JsonDict = {
    "oneOf": [
        {
            "required": ["decisions"],
            "properties": {
                "decisions": {"type": "array"},
                "filter": {"type": "null"},
                "decision": {"type": "null"},
            },
        },
        {
            "required": ["filter", "decision"],
            "properties": {
                "decisions": {"type": "null"},
                "filter": {"type": "object"},
                "decision": {"type": "string"},
            },
        },
    ]
}


class Decision(Strict):
    image_id: UUID
    decision: DecisionWord


class Selection(Strict):
    """Which images of a version: all that fit every condition that is given."""

    version: Annotated[int, Field(ge=1, lt=2**31), Number] | None = Field(
        None, description="Version the conditions speak of; the newest if unset."
    )
    verdict: Verdict | None = None
    needs_review: bool | None = Field(None, strict=True)
    review: ReviewFilter | None = Field(
        None, description="What a person has said: that word, anything, or nothing."
    )
    min_score: Finite | None = None
    max_score: Finite | None = None
    cluster: Annotated[int, Field(ge=0, lt=2**31), Number] | None = None
    name_contains: Text | None = Field(None, max_length=200)


class NewReviews(Strict):
    """Either `decisions`, or one `decision` for all images of `filter`."""

    model_config = ConfigDict(json_schema_extra=_EITHER)

    decisions: list[Decision] | None = Field(None, min_length=1, max_length=MOST_DECISIONS)
    filter: Selection | None = None
    decision: DecisionWord | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.decisions is None) == (self.filter is None):
            raise ValueError("send either decisions, or filter with decision")
        if (self.filter is None) != (self.decision is None):
            raise ValueError("filter and decision belong together")
        return self


class UndoReviews(Strict):
    batch_id: UUID | None = Field(None, description="The batch to take back; your own newest if unset.")


class ReviewBatch(BaseModel):
    """Decisions that were made at once: they are undone at once."""

    id: UUID
    dataset_id: UUID
    revision: int = Field(description="Counts the batches of a dataset; the number in the ETag.")
    by: str
    at: datetime
    images: int
    decision: DecisionWord | None = Field(description="Unset when the batch holds different ones.")
    undoes: UUID | None
    undone_by: UUID | None


class UndoneReviews(ReviewBatch):
    """The batch that took another one back, and what it had to leave alone."""

    skipped: int = Field(description="Images that were decided anew since: they stay as they are.")
    skipped_images: list[UUID] = Field(description="The first 1,000 of them.")


class NewRecut(Strict):
    """How to cut the newest version's signals anew; what is unset stays as it was."""

    cost_ratio: Annotated[float, Field(gt=0, le=100), Number] | None = Field(
        None, description="Cost of keeping a bad image over that of losing a good one."
    )
    cut_score: Finite | None = Field(
        None, description="Images above this score are suspect; instead of a cut found by the cost."
    )


class NewMiss(Strict):
    """An image that turned out bad after it had been kept; images like it are looked for."""

    image_id: UUID


class SimilarImage(BaseModel):
    image_id: UUID
    name: str
    similarity: float = Field(
        description="1 for the same picture, 0 for no more alike than any two of the set."
    )
