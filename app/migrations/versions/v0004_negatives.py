"""The negatives of `neglabel`: words and groups as JSON, and their embeddings."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column("encodings", sa.Column("negatives", sa.Text(), nullable=True))
    op.add_column("encodings", sa.Column("negative_matrix", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("encodings") as batch:
        batch.drop_column("negative_matrix")
        batch.drop_column("negatives")
