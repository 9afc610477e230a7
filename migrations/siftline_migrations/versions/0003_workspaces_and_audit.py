"""Workspaces, rotation of keys, the audit log. What there is already belongs to the workspace "default"."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

Json = sa.JSON().with_variant(JSONB(), "postgresql")
Moment = sa.DateTime(timezone=True)
KEPT = "audit_log is append-only"


def upgrade() -> None:
    op.add_column("datasets", workspace())
    op.create_index("ix_datasets_workspace_id", "datasets", ["workspace", "id"])
    with op.batch_alter_table("idempotency_keys") as batch:
        batch.add_column(workspace())
        batch.drop_constraint("pk_idempotency_keys", type_="primary")
        batch.create_primary_key("pk_idempotency_keys", ["workspace", "key", "route"])
    with op.batch_alter_table("api_keys") as batch:
        batch.add_column(workspace())
        batch.add_column(sa.Column("previous_sha256", sa.String(64), nullable=True))
        batch.add_column(sa.Column("previous_until", Moment, nullable=True))
        batch.add_column(sa.Column("rotated_at", Moment, nullable=True))
        batch.drop_constraint("uq_api_keys_name", type_="unique")
        batch.create_unique_constraint("uq_api_keys_workspace_name", ["workspace", "name"])
        batch.create_unique_constraint("uq_api_keys_previous_sha256", ["previous_sha256"])
    create_audit_log()


def downgrade() -> None:
    """Only one workspace's keys and answers have a place in the tables before."""
    op.drop_table("audit_log")
    if not is_sqlite():
        op.execute("DROP FUNCTION siftline_keep_audit_log")
    op.execute("DELETE FROM api_keys WHERE workspace <> 'default'")
    op.execute("DELETE FROM idempotency_keys WHERE workspace <> 'default'")
    with op.batch_alter_table("api_keys") as batch:
        batch.drop_constraint("uq_api_keys_previous_sha256", type_="unique")
        batch.drop_constraint("uq_api_keys_workspace_name", type_="unique")
        batch.create_unique_constraint("uq_api_keys_name", ["name"])
        for column in ("workspace", "previous_sha256", "previous_until", "rotated_at"):
            batch.drop_column(column)
    with op.batch_alter_table("idempotency_keys") as batch:
        batch.drop_constraint("pk_idempotency_keys", type_="primary")
        batch.create_primary_key("pk_idempotency_keys", ["key", "route"])
        batch.drop_column("workspace")
    op.drop_index("ix_datasets_workspace_id", "datasets")
    op.drop_column("datasets", "workspace")


def workspace() -> sa.Column[str]:
    return sa.Column("workspace", sa.String(64), nullable=False, server_default="default")


def is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def create_audit_log() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", Moment, nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("who", sa.String(100), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("action", sa.String(100), nullable=False),
        sa.Column("objects", Json, nullable=False),
        sa.Column("client", sa.String(100), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit_log"),
    )
    op.create_index("ix_audit_log_workspace_id", "audit_log", ["workspace", "id"])
    if is_sqlite():
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_log_keeps_{change.lower()} BEFORE {change} ON audit_log"
                f" BEGIN SELECT RAISE(ABORT, '{KEPT}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION siftline_keep_audit_log() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_log_keeps BEFORE UPDATE OR DELETE ON audit_log"
        " FOR EACH ROW EXECUTE FUNCTION siftline_keep_audit_log()"
    )
