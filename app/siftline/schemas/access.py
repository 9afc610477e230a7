"""API keys, the roles they carry, the workspaces they open, and the log of what was done with them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from siftline.domain.keys import WORKSPACE_LENGTH, WORKSPACE_PATTERN
from siftline.schemas.common import Number, Strict, Text

RoleName = Literal["viewer", "reviewer", "operator", "admin"]
Workspace = Annotated[str, Field(max_length=WORKSPACE_LENGTH, pattern=WORKSPACE_PATTERN)]


class NewKey(Strict):
    name: Text = Field(
        min_length=1, max_length=100, description="Who or what holds it: decisions are signed with this."
    )
    role: RoleName
    workspace: Workspace | None = Field(
        None, description="What it opens; by default the workspace of whoever makes it."
    )


class RotateKey(Strict):
    grace_s: Annotated[float, Number] = Field(
        0, ge=0, le=30 * 86_400, description="Seconds that the present key stays good beside the new one."
    )


class Key(BaseModel):
    id: UUID
    workspace: str
    name: str
    role: RoleName
    created_at: datetime
    rotated_at: datetime | None
    previous_until: datetime | None = Field(description="How long the key before the rotation still opens.")
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeyCreated(Key):
    key: str = Field(description="Shown this once; only its hash is kept.")


class AuditEntry(BaseModel):
    """One change that was made."""

    id: UUID
    at: datetime
    workspace: str
    who: str = Field(description="The key's name.")
    role: str
    action: str = Field(description="Method and path template, or the command.")
    objects: list[str] = Field(description="`kind:id` of what was named or made.")
    client: str = Field(description="The address it came from.")
    request_id: str | None
