"""Opaque page cursors: where the next page starts, checked when they come back."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from siftline.domain.errors import BadRequest

Position = TypeVar("Position", bound=BaseModel)
Int32 = Annotated[int, Field(ge=0, le=2**31 - 1)]


class BadCursor(BadRequest):
    code = "bad-cursor"


class AfterId(BaseModel):
    """The next page starts behind this id."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: UUID


class AfterRank(BaseModel):
    """The next page starts behind this rank of this version, whatever versions have come since."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    version: Int32
    rank: Int32


class AfterDisputed(AfterRank):
    """The same in a list that is ordered by confidence first."""

    confidence: float


class BeforeRevision(BaseModel):
    """The next page starts with what came before this batch of decisions."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    revision: Int32


class AfterNumber(BaseModel):
    """The next page starts behind this file of a scoring job."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    number: Int32


def encode(position: BaseModel) -> str:
    return urlsafe_b64encode(position.model_dump_json().encode()).decode().rstrip("=")


def decode(cursor: str, kind: type[Position]) -> Position:
    """Raises BadRequest for anything `encode` did not make of a `kind`."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return kind.model_validate_json(urlsafe_b64decode(padded.encode("ascii")))
    except (UnicodeEncodeError, binascii.Error, ValidationError) as error:
        raise BadCursor("The cursor is not one this list has given out.") from error
