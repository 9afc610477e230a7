"""Parts of jobs say what is to be done: not only extraction is shared."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _anew(sa.Column("work", sa.String(16), nullable=False))


def downgrade() -> None:
    _anew()


def _anew(*also: sa.Column[str]) -> None:
    """Nothing is lost with the old rows: they are offers, and whoever made them does the work itself."""
    op.drop_table("job_parts")
    op.create_table(
        "job_parts",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        *also,
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.Column("taken_by", sa.String(100), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_job_parts_job_id_jobs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "job_id", *(column.name for column in also), "start", name=op.f("pk_job_parts")
        ),
    )
