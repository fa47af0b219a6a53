"""Store: named detectors, and what each encoder knows of them."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from app.store import drift, sql
from app.store.database import Database
from app.store.drift import StoredDrift
from app.store.errors import DetectorNotFound, NameTaken, RevisionMismatch, TooManyDetectors
from app.store.records import Replaced, StoredDetector, StoredSummary, is_empty, same_calibration
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.definition import Definition
from mcm.drift import Drift
from mcm.embeddings import Vectors
from mcm.errors import DefinitionMismatch
from mcm.negatives import Negatives


class Store(Database):
    """Detectors in a database, used from threads.

    A detector is stored whole or not at all. Every method may raise StoreUnavailable.
    """

    def revision(self, name: str) -> int | None:
        """The detector's revision, None if there is no such detector. The cheapest question there is."""
        with self.read() as connection:
            return sql.revision(connection, name)

    def revisions(self, names: Sequence[str]) -> dict[str, int]:
        """The revisions of those detectors that there are, in one question."""
        with self.read() as connection:
            return sql.revisions(connection, names)

    def count(self) -> int:
        """The number of detectors."""
        with self.read() as connection:
            return sql.count(connection)

    def load(self, name: str, fingerprint: str) -> StoredDetector | None:
        """The detector as the encoder `fingerprint` sees it, None if there is no such detector."""
        with self.read() as connection:
            return sql.load(connection, name, fingerprint)

    def page(self, limit: int, after: str | None = None) -> tuple[list[StoredSummary], str | None]:
        """At most `limit` detectors in the order of their names, and the `after` of the next page."""
        with self.read() as connection:
            found = sql.summaries(connection, limit + 1, after)
        return found[:limit], found[limit - 1].name if len(found) > limit else None

    def create(
        self,
        name: str,
        definition: Definition,
        fingerprint: str,
        matrix: Vectors,
        *,
        negatives: Negatives | None = None,
        calibration: Calibration = UNCALIBRATED,
        max_detectors: int,
    ) -> StoredDetector:
        """A new detector, with its concept embeddings (k, d) and, maybe, negatives and a calibration.

        Raises:
            NameTaken: there is one of that name.
            TooManyDetectors: there are `max_detectors` already.
        """
        with self.write() as connection:
            if sql.revision(connection, name) is not None:
                raise NameTaken(name)
            _insert(connection, name, definition, max_detectors)
            sql.keep_encoding(connection, name, fingerprint, matrix, negatives)
            sql.put_calibration(connection, name, fingerprint, calibration)
            return sql.reload(connection, name, fingerprint)

    def replace(
        self,
        name: str,
        definition: Definition,
        fingerprint: str,
        matrix: Vectors,
        *,
        negatives: Negatives | None = None,
        if_match: int | None = None,
        calibration: Calibration | None = None,
        max_detectors: int,
    ) -> Replaced:
        """Make `name` a detector of this definition, and of this calibration if one is given.

        The definition that it has already changes nothing, and keeps the calibration. Another one drops the
        old one's embeddings and calibrations, under every encoder.

        Raises:
            RevisionMismatch: `if_match` is given and is not the detector's revision.
            TooManyDetectors: it would be a new one, and there are `max_detectors` already.
        """
        with self.write() as connection:
            old = sql.load(connection, name, fingerprint)
            _check_revision(name, if_match, None if old is None else old.revision)
            dropped = False
            if old is None:
                _insert(connection, name, definition, max_detectors)
            elif old.definition != definition:
                dropped = old.calibrated_elsewhere or not is_empty(old.calibration)
                sql.change_definition(connection, name, definition)
            elif calibration is not None and same_calibration(calibration, old.calibration):
                calibration = None  # put again, it would begin the detector's drift anew
            elif calibration is not None:
                dropped = is_empty(calibration)
                sql.touch(connection, name)
            sql.keep_encoding(connection, name, fingerprint, matrix, negatives)
            if calibration is not None:
                sql.put_calibration(connection, name, fingerprint, calibration)
            return Replaced(sql.reload(connection, name, fingerprint), old is None, dropped)

    def add_encoding(
        self,
        name: str,
        definition: Definition,
        fingerprint: str,
        matrix: Vectors,
        *,
        negatives: Negatives | None = None,
    ) -> None:
        """Keep what another encoder has made of the detector's definition: embeddings (k, d) and negatives.

        They are kept once; the revision stays. Nothing is done if the definition has changed meanwhile, or
        the detector is gone.
        """
        with self.write() as connection:
            stored = sql.load(connection, name, fingerprint)
            if stored is not None and stored.definition == definition:
                sql.keep_encoding(connection, name, fingerprint, matrix, negatives)

    def update_calibration(
        self,
        name: str,
        fingerprint: str,
        change: Callable[[StoredDetector], Calibration],
        *,
        if_match: int | None = None,
    ) -> StoredDetector:
        """Put what `change` makes of the detector in the place of its calibration under this encoder.

        Nobody else writes between the two, so `change` should be quick; what it raises leaves all as it was.
        An empty calibration removes scores and threshold.

        Raises:
            DetectorNotFound: there is no such detector.
            RevisionMismatch: `if_match` is given and is not the detector's revision.
        """
        with self.write() as connection:
            old = sql.load(connection, name, fingerprint)
            if old is None:
                raise DetectorNotFound(name)
            _check_revision(name, if_match, old.revision)
            calibration = change(old)
            if same_calibration(calibration, old.calibration):
                return old
            sql.touch(connection, name)
            sql.put_calibration(connection, name, fingerprint, calibration)
            return sql.reload(connection, name, fingerprint)

    def set_calibration(
        self,
        name: str,
        fingerprint: str,
        definition_hash: str,
        change: Callable[[Calibration], Calibration],
        *,
        if_match: int | None = None,
    ) -> StoredDetector:
        """Replace the calibration under this encoder by what `change` makes of it under `definition_hash`.

        Raises:
            DefinitionMismatch: the detector's definition hash is another, maybe since a moment ago.
            DetectorNotFound, RevisionMismatch: as `update_calibration`.
        """

        def checked(stored: StoredDetector) -> Calibration:
            current = stored.definition.hash(fingerprint)
            if current != definition_hash:
                raise DefinitionMismatch(
                    f"the scores were made under definition {definition_hash}, detector {name!r} has "
                    f"{current}; score the images again"
                )
            return change(stored.calibration)

        return self.update_calibration(name, fingerprint, checked, if_match=if_match)

    def delete(self, name: str, *, if_match: int | None = None) -> None:
        """Delete the detector with all its embeddings and calibrations.

        Raises:
            DetectorNotFound: there is no such detector.
            RevisionMismatch: `if_match` is given and is not the detector's revision.
        """
        with self.write() as connection:
            current = sql.revision(connection, name)
            if current is None:
                raise DetectorNotFound(name)
            _check_revision(name, if_match, current)
            sql.delete_detector(connection, name)

    def drift(self, name: str, fingerprint: str) -> StoredDrift | None:
        """What is kept of the detector's images since its calibration under this encoder, if anything is."""
        with self.read() as connection:
            return drift.load(connection, name, fingerprint)

    def drifts(self, fingerprint: str) -> dict[str, StoredDrift]:
        """What is kept of all detectors' images under this encoder, by name."""
        with self.read() as connection:
            return drift.load_all(connection, fingerprint)

    def advance_drift(
        self, name: str, fingerprint: str, revision: int, advance: Callable[[Drift | None], Drift]
    ) -> StoredDrift | None:
        """Put what `advance` makes of the drift kept so far (None: no images yet) in its place.

        Nobody else writes between the two. None, and nothing is done, if the detector is no longer at this
        revision, at which it must have calibration scores.
        """
        with self.write() as connection:
            if sql.revision(connection, name) != revision:
                return None
            return drift.change(connection, name, fingerprint, advance)


def _insert(connection: Connection, name: str, definition: Definition, max_detectors: int) -> None:
    if sql.count(connection) >= max_detectors:
        raise TooManyDetectors(max_detectors)
    sql.insert_detector(connection, name, definition)


def _check_revision(name: str, expected: int | None, current: int | None) -> None:
    if expected is not None and expected != current:
        raise RevisionMismatch(name, expected=expected, current=current)
