"""The store's statements about drift. The row of a detector goes with the calibration that it was seen under.

`Store.put_calibration` replaces the calibration's row, and the database then deletes what refers to it: so no
count of images outlives the calibration, whoever changes it.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from app.store.tables import DriftRow
from mcm.drift import SCHEME, Drift, Tally


@dataclass(frozen=True)
class StoredDrift:
    """What is kept of the images since a calibration, and when; `alarm_at` is None until the alarm."""

    since: datetime
    updated_at: datetime
    alarm_at: datetime | None
    drift: Drift


Change = Callable[[Drift | None], Drift]


def load(connection: Connection, name: str, fingerprint: str) -> StoredDrift | None:
    """What is kept of a detector's images under one encoder; None if nothing is."""
    query = select(DriftRow.__table__).where(DriftRow.detector == name, DriftRow.fingerprint == fingerprint)
    row = connection.execute(query).one_or_none()
    return None if row is None else _from_row(row)


def load_all(connection: Connection, fingerprint: str) -> dict[str, StoredDrift]:
    """What is kept under one encoder, by detector."""
    rows = connection.execute(select(DriftRow.__table__).where(DriftRow.fingerprint == fingerprint))
    found = {row.detector: _from_row(row) for row in rows}
    return {name: stored for name, stored in found.items() if stored is not None}


def change(connection: Connection, name: str, fingerprint: str, make: Change) -> StoredDrift:
    """Put what `make` makes of the drift kept so far in its place; there must be a calibration."""
    now = datetime.now(UTC)
    before = load(connection, name, fingerprint)
    drift = make(None if before is None else before.drift)
    alarm_at = None if before is None else before.alarm_at
    if alarm_at is None and drift.alarm_after is not None:
        alarm_at = now
    stored = StoredDrift(now if before is None else before.since, now, alarm_at, drift)
    connection.execute(delete(DriftRow).where(DriftRow.detector == name, DriftRow.fingerprint == fingerprint))
    connection.execute(
        insert(DriftRow).values(
            detector=name,
            fingerprint=fingerprint,
            since=stored.since,
            updated_at=stored.updated_at,
            alarm_at=stored.alarm_at,
            drift=json.dumps({"scheme": SCHEME, **asdict(drift)}, separators=(",", ":")),
        )
    )
    return stored


def _from_row(row: Row[Any]) -> StoredDrift | None:
    """None if it is damaged, or another version of the code kept it by other rules: then it begins anew."""
    try:
        data = json.loads(row.drift)
        if data["scheme"] != SCHEME:
            return None
        older, newer = (Tally(**half) for half in data["halves"])
        drift = Drift(
            seen=tuple(data["seen"]),
            log_wealths=tuple(data["log_wealths"]),
            halves=(older, newer),
            alarm_after=data["alarm_after"],
        )
    except (ValueError, TypeError, KeyError):
        return None
    return StoredDrift(row.since, row.updated_at, row.alarm_at, drift)
