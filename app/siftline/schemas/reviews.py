"""What people decide about images."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import BaseModel, Field, model_validator

from siftline.schemas.common import Number, Strict, Text, Verdict

DecisionWord = Literal["keep", "reject", "clear"]
MOST_DECISIONS = 10_000


class Decision(Strict):
    image_id: UUID
    decision: DecisionWord


class Selection(Strict):
    """Which images of a version: all that fit every condition that is given."""

    version: int | None = Field(
        None, ge=1, description="Version the conditions speak of; the newest if unset."
    )
    verdict: Verdict | None = None
    needs_review: bool | None = Field(None, strict=True)
    review: Literal["keep", "reject", "any", "none"] | None = Field(
        None, description="What a person has said: that word, anything, or nothing."
    )
    min_score: Annotated[float, Number] | None = None
    max_score: Annotated[float, Number] | None = None
    cluster: int | None = Field(None, ge=0)
    name_contains: Text | None = Field(None, max_length=200)


class NewReviews(Strict):
    """Either `decisions`, or one `decision` for all images of `filter`."""

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


class NewMiss(Strict):
    """An image that turned out bad after it had been kept; images like it are looked for."""

    image_id: UUID


class SimilarImage(BaseModel):
    image_id: UUID
    name: str
    similarity: float = Field(
        description="1 for the same picture, 0 for no more alike than any two of the set."
    )
