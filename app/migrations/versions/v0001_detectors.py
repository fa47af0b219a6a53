"""Detectors, what encoders know of them, and the counter of revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    """Apply it."""
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.bulk_insert(counters, [{"name": "revision", "value": 0}])
    op.create_table(
        "detectors",
        sa.Column("name", NAME, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_detectors"),
    )
    op.create_table(
        "encodings",
        sa.Column("detector", NAME, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("k", sa.Integer(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("matrix", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("detector", "fingerprint", name="pk_encodings"),
        sa.ForeignKeyConstraint(
            ["detector"], ["detectors.name"], name="fk_encodings_detector", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "calibrations",
        sa.Column("detector", NAME, nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("detector", "fingerprint", name="pk_calibrations"),
        sa.ForeignKeyConstraint(
            ["detector"], ["detectors.name"], name="fk_calibrations_detector", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("calibrations")
    op.drop_table("encodings")
    op.drop_table("detectors")
    op.drop_table("counters")
