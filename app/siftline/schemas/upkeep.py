"""What those who run an installation are told."""

from typing import Literal

from pydantic import BaseModel


class Finding(BaseModel):
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "warning", "failure"]
    told: str
    fix: str | None = None


class Collected(BaseModel):
    """Garbage of one kind. `held_back`: found, but left because there is more of it than there should be."""

    kind: str
    count: int
    bytes: int
    held_back: bool
