"""The tables. A change here needs a migration in app/migrations/versions; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Pages are ordered by name: by code point on every database, not by the server's language.
NAME = String(64).with_variant(String(64, collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC, also on SQLite, which keeps no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        """To UTC, as the column keeps it."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        """From the column, which may have dropped the zone."""
        if value is None or value.tzinfo is not None:
            return None if value is None else value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    """Root of the tables; constraints have names, so that later migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(table_name)s_%(column_0_name)s",
        }
    )


class CounterRow(Base):
    """Numbers that only rise. The one row, `revision`, holds the last revision given to any detector."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class DetectorRow(Base):
    """A named definition, as JSON text."""

    __tablename__ = "detectors"

    name: Mapped[str] = mapped_column(NAME, primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    definition: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class EncodingRow(Base):
    """Concept embeddings of a detector's definition under one encoder: (k, dim) little-endian float32.

    `negatives`, JSON, and their embeddings are there where the score is `neglabel`.
    """

    __tablename__ = "encodings"

    detector: Mapped[str] = mapped_column(
        NAME, ForeignKey(DetectorRow.name, ondelete="CASCADE"), primary_key=True
    )
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    k: Mapped[int]
    dim: Mapped[int]
    matrix: Mapped[bytes] = mapped_column(LargeBinary)
    negatives: Mapped[str | None] = mapped_column(Text)
    negative_matrix: Mapped[bytes | None] = mapped_column(LargeBinary)


class CalibrationRow(Base):
    """A detector's calibration under one encoder: little-endian float64 scores, and a JSON certificate.

    `groups` is JSON too, and there where the calibration is per concept.
    """

    __tablename__ = "calibrations"

    detector: Mapped[str] = mapped_column(
        NAME, ForeignKey(DetectorRow.name, ondelete="CASCADE"), primary_key=True
    )
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    scores: Mapped[bytes] = mapped_column(LargeBinary)
    certificate: Mapped[str | None] = mapped_column(Text)
    groups: Mapped[str | None] = mapped_column(Text)


class DriftRow(Base):
    """What is kept of the images since a calibration, as JSON: counts, no scores. It goes with that row."""

    __tablename__ = "drifts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["detector", "fingerprint"],
            [CalibrationRow.detector, CalibrationRow.fingerprint],
            ondelete="CASCADE",
        ),
    )

    detector: Mapped[str] = mapped_column(NAME, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(Text, primary_key=True)
    since: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    alarm_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    drift: Mapped[str] = mapped_column(Text)
