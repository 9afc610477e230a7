"""First tables: datasets, images, receipts, jobs, workers, purifications, idempotency keys."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    create_datasets()
    create_jobs()
    create_purifications()
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("route", sa.String(200), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body", Json, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("key", "route", name="pk_idempotency_keys"),
    )


def downgrade() -> None:
    for table in (
        "idempotency_keys",
        "purified_items",
        "purifications",
        "workers",
        "job_moves",
        "jobs",
        "receipts",
        "images",
        "datasets",
    ):
        op.drop_table(table)


def belongs_to(table: str, parent: str) -> sa.ForeignKeyConstraint:
    """`<parent>_id` of `table` points at `<parent>s.id` and goes with it."""
    return sa.ForeignKeyConstraint(
        [f"{parent}_id"], [f"{parent}s.id"], name=f"fk_{table}_{parent}_id_{parent}s", ondelete="CASCADE"
    )


def create_datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("options", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(1024), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("sample_low", sa.Double(), nullable=True),
        sa.Column("sample_high", sa.Double(), nullable=True),
        sa.Column("sample_is_float", sa.Boolean(), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        belongs_to("images", "dataset"),
        sa.UniqueConstraint("dataset_id", "sha256", name="uq_images_dataset_id_sha256"),
    )
    op.create_index("ix_images_dataset_id_id", "images", ["dataset_id", "id"])
    op.create_table(
        "receipts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(1024), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_receipts"),
        belongs_to("receipts", "dataset"),
    )
    op.create_index("ix_receipts_dataset_id_id", "receipts", ["dataset_id", "id"])
    op.create_index("ix_receipts_dataset_id_status_id", "receipts", ["dataset_id", "status", "id"])


def create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("params", Json, nullable=False),
        sa.Column("stage", sa.String(40), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(100), nullable=True),
        sa.Column("lease_until", Moment, nullable=True),
        sa.Column("rung_at", Moment, nullable=True),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("started_at", Moment, nullable=True),
        sa.Column("updated_at", Moment, nullable=False),
        sa.Column("finished_at", Moment, nullable=True),
        sa.Column("result", Json, nullable=True),
        sa.Column("error", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        belongs_to("jobs", "dataset"),
        sa.CheckConstraint(
            "state IN ('queued','running','cancelling','cancelled','succeeded','failed')",
            name=op.f("ck_jobs_state"),
        ),
    )
    op.create_index("ix_jobs_state_created_at", "jobs", ["state", "created_at"])
    op.create_index("ix_jobs_dataset_id_id", "jobs", ["dataset_id", "id"])
    op.create_table(
        "job_moves",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(100), nullable=True),
        sa.Column("reason", sa.String(200), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_moves"),
        belongs_to("job_moves", "job"),
    )
    op.create_index("ix_job_moves_job_id_id", "job_moves", ["job_id", "id"])
    op.create_table(
        "workers",
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("started_at", Moment, nullable=False),
        sa.Column("beat_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )


def create_purifications() -> None:
    op.create_table(
        "purifications",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("options", Json, nullable=False),
        sa.Column("backbone", Json, nullable=False),
        sa.Column("contamination", Json, nullable=False),
        sa.Column("cut", Json, nullable=False),
        sa.Column("counts", Json, nullable=False),
        sa.Column("heat_scale", Json, nullable=False),
        sa.Column("stage_seconds", Json, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_purifications"),
        belongs_to("purifications", "dataset"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_purifications_job_id_jobs"),
        sa.UniqueConstraint("dataset_id", "version", name="uq_purifications_dataset_id_version"),
        sa.UniqueConstraint("job_id", name="uq_purifications_job_id"),
    )
    op.create_table(
        "purified_items",
        sa.Column("purification_id", sa.Uuid(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("p_anomalous", sa.Double(), nullable=False),
        sa.Column("interval_lo", sa.Double(), nullable=False),
        sa.Column("interval_hi", sa.Double(), nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("needs_review", sa.Boolean(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("signals", Json, nullable=False),
        sa.Column("near_duplicates", Json, nullable=False),
        sa.Column("heat_rows", sa.Integer(), nullable=False),
        sa.Column("heat_cols", sa.Integer(), nullable=False),
        sa.Column("heat", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("purification_id", "rank", name="pk_purified_items"),
        belongs_to("purified_items", "purification"),
        belongs_to("purified_items", "image"),
        sa.UniqueConstraint("purification_id", "image_id", name="uq_purified_items_purification_id_image_id"),
    )
    op.create_index("ix_purified_items_image_id", "purified_items", ["image_id"])
    op.create_index(
        "ix_purified_items_purification_id_verdict_rank",
        "purified_items",
        ["purification_id", "verdict", "rank"],
    )
