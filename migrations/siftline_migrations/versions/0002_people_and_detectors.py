"""Human decisions, API keys, detectors with their artifacts, scores of large requests."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)


def upgrade() -> None:
    add_columns()
    create_reviews()
    create_detectors()
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("last_used_at", Moment, nullable=True),
        sa.Column("revoked_at", Moment, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("name", name="uq_api_keys_name"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )


def downgrade() -> None:
    for table in (
        "api_keys",
        "job_scores",
        "artifact_chunks",
        "artifacts",
        "detectors",
        "review_decisions",
        "review_batches",
    ):
        op.drop_table(table)
    op.drop_index("ix_jobs_detector_id", "jobs")
    op.drop_column("jobs", "detector_id")
    op.drop_index("ix_images_dataset_id_review", "images")
    for column in ("review", "reviewed_by", "reviewed_at", "review_revision"):
        op.drop_column("images", column)
    op.drop_column("datasets", "review_revision")
    for column in ("based_on", "review_revision"):
        op.drop_column("purifications", column)
    for column in ("cluster", "explanation"):
        op.drop_column("purified_items", column)


def revision_number() -> sa.Column[int]:
    return sa.Column("review_revision", sa.Integer(), nullable=False, server_default="0")


def add_columns() -> None:
    op.add_column("datasets", revision_number())
    op.add_column("images", sa.Column("review", sa.String(8), nullable=True))
    op.add_column("images", sa.Column("reviewed_by", sa.String(100), nullable=True))
    op.add_column("images", sa.Column("reviewed_at", Moment, nullable=True))
    op.add_column("images", revision_number())
    op.create_index("ix_images_dataset_id_review", "images", ["dataset_id", "review"])
    op.add_column("jobs", sa.Column("detector_id", sa.Uuid(), nullable=True))
    op.create_index("ix_jobs_detector_id", "jobs", ["detector_id"])
    op.add_column("purifications", sa.Column("based_on", sa.Integer(), nullable=True))
    op.add_column("purifications", revision_number())
    op.add_column("purified_items", sa.Column("cluster", sa.Integer(), nullable=True))
    op.add_column("purified_items", sa.Column("explanation", Json, nullable=True))


def create_reviews() -> None:
    op.create_table(
        "review_batches",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("by", sa.String(100), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("decision", sa.String(8), nullable=True),
        sa.Column("undoes", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_review_batches"),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name="fk_review_batches_dataset_id_datasets",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("dataset_id", "revision", name="uq_review_batches_dataset_id_revision"),
    )
    op.create_table(
        "review_decisions",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("previous", sa.String(8), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("previous_revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "image_id", name="pk_review_decisions"),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["review_batches.id"],
            name="fk_review_decisions_batch_id_review_batches",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name="fk_review_decisions_image_id_images", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_review_decisions_image_id", "review_decisions", ["image_id"])


def create_detectors() -> None:
    op.create_table(
        "detectors",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("options", Json, nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.Column("lineage", Json, nullable=True),
        sa.Column("calibration", Json, nullable=True),
        sa.Column("curve", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_detectors"),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name="fk_detectors_dataset_id_datasets"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_detectors_job_id_jobs"),
        sa.UniqueConstraint("job_id", name="uq_detectors_job_id"),
    )
    op.create_index("ix_detectors_dataset_id", "detectors", ["dataset_id"])
    op.create_table(
        "artifacts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("detector_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("media_type", sa.String(100), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("created_at", Moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_artifacts"),
        sa.ForeignKeyConstraint(
            ["detector_id"], ["detectors.id"], name="fk_artifacts_detector_id_detectors", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("detector_id", "name", name="uq_artifacts_detector_id_name"),
    )
    op.create_table(
        "artifact_chunks",
        sa.Column("artifact_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("artifact_id", "number", name="pk_artifact_chunks"),
        sa.ForeignKeyConstraint(
            ["artifact_id"],
            ["artifacts.id"],
            name="fk_artifact_chunks_artifact_id_artifacts",
            ondelete="CASCADE",
        ),
    )
    op.create_table(
        "job_scores",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(1024), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(8), nullable=True),
        sa.Column("reason", sa.String(500), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_job_scores"),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name="fk_job_scores_job_id_jobs", ondelete="CASCADE"
        ),
    )
