"""What is kept of the images since a calibration; it goes when the calibration goes or changes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAME = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "drifts",
        sa.Column("detector", NAME, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("alarm_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("drift", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("detector", "fingerprint", name="pk_drifts"),
        sa.ForeignKeyConstraint(
            ["detector", "fingerprint"],
            ["calibrations.detector", "calibrations.fingerprint"],
            name="fk_drifts_detector",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("drifts")
