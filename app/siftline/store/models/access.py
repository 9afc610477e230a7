"""Who may come in, and what they did."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siftline.domain.keys import DEFAULT_WORKSPACE, WORKSPACE_LENGTH
from siftline.store.models.base import Base


class ApiKey(Base):
    """The key itself is shown once, when it is made; here stands its SHA-256 only."""

    __tablename__ = "api_keys"
    __table_args__ = (UniqueConstraint("workspace", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    workspace: Mapped[str] = mapped_column(
        String(WORKSPACE_LENGTH), default=DEFAULT_WORKSPACE, server_default=DEFAULT_WORKSPACE
    )
    name: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(16))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    previous_sha256: Mapped[str | None] = mapped_column(String(64), unique=True)
    """Of the key before the last rotation; it opens until `previous_until`."""
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime]
    rotated_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuditEntry(Base):
    """One change that was made, written in the transaction that made it. A trigger keeps rows as they are."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_workspace_id", "workspace", "id"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    workspace: Mapped[str] = mapped_column(String(WORKSPACE_LENGTH))
    who: Mapped[str] = mapped_column(String(100))
    role: Mapped[str] = mapped_column(String(16))
    action: Mapped[str] = mapped_column(String(100))
    """Method and path template, or the command."""
    objects: Mapped[list[str]]
    """`kind:id` of what the path named and of what was made."""
    client: Mapped[str] = mapped_column(String(100))
    """The address it came from."""
    request_id: Mapped[str | None] = mapped_column(String(64))
