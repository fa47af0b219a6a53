"""The concepts of calibration scores, where a calibration is per concept."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply it."""
    op.add_column("calibrations", sa.Column("groups", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    with op.batch_alter_table("calibrations") as batch:
        batch.drop_column("groups")
