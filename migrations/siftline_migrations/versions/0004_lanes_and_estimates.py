"""Lanes, turns, estimates and request ids of jobs; what workers take and have."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")
JOBS = ("lane", "due_at", "estimate", "usage", "request_id")
WORKERS = ("lanes", "memory_bytes", "disk_free_bytes")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("lane", sa.String(8), nullable=False, server_default="heavy"))
    op.add_column("jobs", sa.Column("due_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("jobs", sa.Column("estimate", Json, nullable=True))
    op.add_column("jobs", sa.Column("usage", Json, nullable=True))
    op.add_column("jobs", sa.Column("request_id", sa.String(64), nullable=True))
    op.execute("UPDATE jobs SET due_at = created_at")
    op.execute("UPDATE jobs SET lane = 'light' WHERE kind IN ('recut', 'similar', 'score')")
    op.create_index("ix_jobs_state_lane_due_at", "jobs", ["state", "lane", "due_at"])
    op.add_column("workers", sa.Column("lanes", Json, nullable=True))
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("disk_free_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for column in WORKERS:
        op.drop_column("workers", column)
    op.drop_index("ix_jobs_state_lane_due_at", "jobs")
    for column in JOBS:
        op.drop_column("jobs", column)
