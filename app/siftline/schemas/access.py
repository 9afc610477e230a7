"""API keys and the roles they carry."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.schemas.common import Strict, Text

RoleName = Literal["viewer", "reviewer", "operator", "admin"]


class NewKey(Strict):
    name: Text = Field(
        min_length=1, max_length=100, description="Who or what holds it: decisions are signed with this."
    )
    role: RoleName


class Key(BaseModel):
    id: UUID
    name: str
    role: RoleName
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(Key):
    key: str = Field(description="Shown this once; only its hash is kept.")
