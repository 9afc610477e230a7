"""What lists of a million images need: a count kept with the dataset, an index of the disputed."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

DISPUTED = "ix_purified_items_purification_id_confidence_rank"


def upgrade() -> None:
    op.add_column("datasets", sa.Column("images", sa.Integer(), nullable=False, server_default="0"))
    op.execute(
        "UPDATE datasets SET images = (SELECT count(*) FROM images WHERE images.dataset_id = datasets.id)"
    )
    op.create_index(DISPUTED, "purified_items", ["purification_id", "confidence", "rank", "score"])


def downgrade() -> None:
    op.drop_index(DISPUTED, "purified_items")
    op.drop_column("datasets", "images")
