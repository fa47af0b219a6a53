"""The store's statements, each on an open connection. What writes runs inside `Database.write`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, update

from app.store.errors import StoreUnavailable
from app.store.records import (
    StoredDetector,
    StoredSummary,
    calibration_from_columns,
    certificate_to_text,
    definition_from_text,
    definition_to_text,
    groups_to_text,
    is_empty,
    matrix_from_bytes,
    matrix_to_bytes,
    negatives_from_columns,
    negatives_to_text,
    scores_to_bytes,
)
from app.store.tables import CalibrationRow, CounterRow, DetectorRow, EncodingRow
from mcm.calibration import Calibration
from mcm.definition import Definition
from mcm.embeddings import Vectors
from mcm.negatives import Negatives

# Asked by every request, so built once: this more than halves its cost.
_REVISION = select(DetectorRow.revision).where(DetectorRow.name == bindparam("name"))
_REVISIONS = select(DetectorRow.name, DetectorRow.revision).where(
    DetectorRow.name.in_(bindparam("names", expanding=True))
)


def revision(connection: Connection, name: str) -> int | None:
    """The detector's revision, None if there is no such detector."""
    return connection.scalar(_REVISION, {"name": name})


def revisions(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """The revisions of those detectors that there are."""
    return {row.name: row.revision for row in connection.execute(_REVISIONS, {"names": names})}


def count(connection: Connection) -> int:
    """The number of detectors."""
    return connection.execute(select(func.count()).select_from(DetectorRow)).scalar_one()


def load(connection: Connection, name: str, fingerprint: str) -> StoredDetector | None:
    """The detector as one encoder sees it, in one statement, so that its parts belong together."""
    elsewhere = (
        select(CalibrationRow.detector)
        .where(CalibrationRow.detector == name, CalibrationRow.fingerprint != fingerprint)
        .correlate(None)
        .exists()
    )
    encoding = and_(EncodingRow.detector == DetectorRow.name, EncodingRow.fingerprint == fingerprint)
    calibration = and_(CalibrationRow.detector == DetectorRow.name, CalibrationRow.fingerprint == fingerprint)
    query = (
        select(
            DetectorRow.revision,
            DetectorRow.definition,
            DetectorRow.created_at,
            DetectorRow.updated_at,
            EncodingRow.matrix,
            EncodingRow.k,
            EncodingRow.dim,
            EncodingRow.negatives,
            EncodingRow.negative_matrix,
            CalibrationRow.scores,
            CalibrationRow.certificate,
            CalibrationRow.groups,
            elsewhere.label("calibrated_elsewhere"),
        )
        .select_from(DetectorRow)
        .outerjoin(EncodingRow, encoding)
        .outerjoin(CalibrationRow, calibration)
        .where(DetectorRow.name == name)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    with _readable(name):
        return StoredDetector(
            name=name,
            revision=row.revision,
            definition=definition_from_text(row.definition),
            created_at=row.created_at,
            updated_at=row.updated_at,
            matrix=None if row.matrix is None else matrix_from_bytes(row.matrix, row.k, row.dim),
            calibration=calibration_from_columns(row.scores, row.certificate, row.groups),
            calibrated_elsewhere=bool(row.calibrated_elsewhere),
            negatives=negatives_from_columns(row.negatives, row.negative_matrix, row.dim),
        )


def reload(connection: Connection, name: str, fingerprint: str) -> StoredDetector:
    """The detector that was just written."""
    stored = load(connection, name, fingerprint)
    assert stored is not None
    return stored


def summaries(connection: Connection, limit: int, after: str | None) -> list[StoredSummary]:
    """At most `limit` detectors whose names come after `after`, in the order of their names."""
    query = (
        select(
            DetectorRow.name,
            DetectorRow.revision,
            DetectorRow.definition,
            DetectorRow.created_at,
            DetectorRow.updated_at,
        )
        .order_by(DetectorRow.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(DetectorRow.name > after)
    found = []
    for name, revision, definition, created_at, updated_at in connection.execute(query):
        with _readable(name):
            parsed = definition_from_text(definition)
        found.append(StoredSummary(name, revision, parsed, created_at, updated_at))
    return found


def insert_detector(connection: Connection, name: str, definition: Definition) -> None:
    """A new detector under a new revision."""
    now = datetime.now(UTC)
    connection.execute(
        insert(DetectorRow).values(
            name=name,
            revision=_next_revision(connection),
            definition=definition_to_text(definition),
            created_at=now,
            updated_at=now,
        )
    )


def change_definition(connection: Connection, name: str, definition: Definition) -> None:
    """Another definition under a new revision; what was made under the old one goes, of all encoders."""
    connection.execute(delete(EncodingRow).where(EncodingRow.detector == name))
    connection.execute(delete(CalibrationRow).where(CalibrationRow.detector == name))
    connection.execute(
        update(DetectorRow).where(DetectorRow.name == name).values(definition=definition_to_text(definition))
    )
    touch(connection, name)


def touch(connection: Connection, name: str) -> None:
    """Give the detector a new revision."""
    connection.execute(
        update(DetectorRow)
        .where(DetectorRow.name == name)
        .values(revision=_next_revision(connection), updated_at=datetime.now(UTC))
    )


def delete_detector(connection: Connection, name: str) -> None:
    """Delete the detector; the database deletes its embeddings and calibrations with it."""
    connection.execute(delete(DetectorRow).where(DetectorRow.name == name))


def keep_encoding(
    connection: Connection, name: str, fingerprint: str, matrix: Vectors, negatives: Negatives | None
) -> None:
    """Keep concept embeddings (k, d) and negatives, unless that encoder's are kept already."""
    is_kept = select(EncodingRow.k).where(
        EncodingRow.detector == name, EncodingRow.fingerprint == fingerprint
    )
    if connection.scalar(is_kept) is not None:
        return
    k, dim = matrix.shape
    connection.execute(
        insert(EncodingRow).values(
            detector=name,
            fingerprint=fingerprint,
            k=k,
            dim=dim,
            matrix=matrix_to_bytes(matrix),
            negatives=negatives_to_text(negatives),
            negative_matrix=None if negatives is None else matrix_to_bytes(negatives.matrix),
        )
    )


def put_calibration(connection: Connection, name: str, fingerprint: str, calibration: Calibration) -> None:
    """Replace the calibration under that encoder; an empty one leaves no row."""
    connection.execute(
        delete(CalibrationRow).where(
            CalibrationRow.detector == name, CalibrationRow.fingerprint == fingerprint
        )
    )
    if is_empty(calibration):
        return
    connection.execute(
        insert(CalibrationRow).values(
            detector=name,
            fingerprint=fingerprint,
            scores=scores_to_bytes(calibration.scores),
            certificate=certificate_to_text(calibration.certificate),
            groups=groups_to_text(calibration.groups),
        )
    )


def _next_revision(connection: Connection) -> int:
    raised = update(CounterRow).values(value=CounterRow.value + 1).returning(CounterRow.value)
    return connection.execute(raised).scalar_one()


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn a record that cannot be understood, damaged or by a newer version, into StoreUnavailable."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise StoreUnavailable(
            f"the record of detector {name!r} is damaged, or a newer version of this service wrote it"
        ) from error
