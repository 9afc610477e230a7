"""Jobs are counted, and the newest of a kind that succeeded is found, in an index alone."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COUNTED = "ix_jobs_state_kind_id"


def upgrade() -> None:
    op.create_index(COUNTED, "jobs", ["state", "kind", "id"])


def downgrade() -> None:
    op.drop_index(COUNTED, "jobs")
