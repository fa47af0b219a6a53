"""What is stored comes back, after any sequence of writes."""

from collections.abc import Iterator
from datetime import UTC
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.store import NameTaken, Store, StoredDetector
from mcm.calibration import UNCALIBRATED, Calibration, Certificate, ConceptThreshold, manual
from mcm.definition import Concept, Definition, define
from mcm.mondrian import Groups
from tests.app.store.processes import FINGERPRINT
from tests.app.store.samples import CARS, OTHER, PETS, load, matrix_of

CHARACTERS = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
TEXTS = st.text(CHARACTERS, min_size=1).filter(lambda t: bool(t.strip()))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
THRESHOLDS = st.builds(
    ConceptThreshold,
    concept=st.none() | TEXTS,
    threshold=FLOATS,
    n=st.integers(0, 2**40),
    k=st.none() | st.integers(0, 2**40),
    expected_rate=st.none() | FLOATS,
    rate_interval=st.none() | st.tuples(FLOATS, FLOATS),
)
CERTIFICATES = st.builds(
    Certificate,
    threshold=FLOATS,
    method=TEXTS,
    false_alarm_rate=st.none() | FLOATS,
    confidence=st.none() | FLOATS,
    n=st.integers(0, 2**40),
    k=st.none() | st.integers(0, 2**40),
    expected_rate=st.none() | FLOATS,
    rate_interval=st.none() | st.tuples(FLOATS, FLOATS),
    promise=st.none() | TEXTS,
    created_at=st.datetimes(timezones=st.sampled_from([UTC])),
    definition_hash=TEXTS,
    concepts=st.lists(THRESHOLDS, max_size=2).map(tuple),
)
TEMPLATES = st.builds("{}{{}}{}".format, TEXTS, TEXTS).filter(lambda t: t.count("{}") == 1)
DEFINITIONS = st.builds(
    define,
    st.lists(st.builds(Concept, TEXTS, st.lists(TEXTS, max_size=2).map(tuple)), min_size=1, max_size=3),
    templates=st.lists(TEMPLATES, min_size=1, max_size=2),
    score=st.sampled_from(["energy", "max-logit"]),
    temperature=st.floats(1e-6, 1e6),
)


@settings(max_examples=50, deadline=None)
@given(data=st.data(), definition=DEFINITIONS, certificate=st.none() | CERTIFICATES)
def test_whatever_is_stored_comes_back_bit_for_bit(
    round_trips: Store, data: st.DataObject, definition: Definition, certificate: Certificate | None
) -> None:
    shape = (len(definition.concepts), data.draw(st.integers(1, 4)))
    matrix = data.draw(arrays.arrays(np.float32, shape))
    scores = data.draw(st.lists(st.floats(-1e300, 1e300), max_size=5))
    names = data.draw(st.none() | st.lists(TEXTS, min_size=len(scores), max_size=len(scores)))
    groups = None if not names else Groups(tuple(names), data.draw(st.integers(1, 100)))
    calibration = Calibration(np.array(scores), certificate, groups)
    try:
        round_trips.create("x", definition, FINGERPRINT, matrix, calibration=calibration, max_detectors=1)
        stored = load(round_trips, name="x")
        assert stored.definition == definition
        assert stored.definition.hash(FINGERPRINT) == definition.hash(FINGERPRINT)
        assert stored.matrix is not None
        assert (stored.matrix.shape, stored.matrix.tobytes()) == (shape, matrix.tobytes())
        assert stored.calibration.scores.tolist() == sorted(scores)
        assert stored.calibration.certificate == certificate
        assert stored.calibration.groups == calibration.groups
    finally:
        round_trips.delete("x")


@pytest.fixture(scope="module")
def round_trips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('round')}/store.db")
    opened.migrate()
    yield opened
    opened.close()


class StoreModel(RuleBasedStateMachine):
    """The store and a dictionary of what it should hold: name -> definition, encoders, calibrations."""

    names = st.sampled_from(["a", "b"])
    definitions = st.sampled_from([PETS, CARS])
    fingerprints = st.sampled_from([FINGERPRINT, OTHER])
    thresholds = st.sampled_from([0.1, 0.2])

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.store = Store(f"sqlite:///{self.folder.name}/store.db")
        self.store.migrate()
        self.model: dict[str, tuple[Definition, set[str], dict[str, float]]] = {}
        self.last_revision = 0

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()

    def changed(self, stored: StoredDetector) -> None:
        assert stored.revision > self.last_revision
        self.last_revision = stored.revision

    @rule(name=names, definition=definitions, fingerprint=fingerprints)
    def create(self, name: str, definition: Definition, fingerprint: str) -> None:
        def attempt() -> StoredDetector:
            return self.store.create(
                name, definition, fingerprint, matrix_of(definition, fingerprint), max_detectors=2
            )

        if name in self.model:
            with pytest.raises(NameTaken):
                attempt()
        else:
            self.changed(attempt())
            self.model[name] = (definition, {fingerprint}, {})

    @rule(name=names, definition=definitions, fingerprint=fingerprints)
    def replace(self, name: str, definition: Definition, fingerprint: str) -> None:
        replaced = self.store.replace(
            name, definition, fingerprint, matrix_of(definition, fingerprint), max_detectors=2
        )
        old = self.model.get(name)
        assert replaced.created == (old is None)
        if old is None or old[0] != definition:
            self.changed(replaced.stored)
            assert replaced.dropped_calibration == bool(old and old[2])
            self.model[name] = (definition, {fingerprint}, {})
        else:
            old[1].add(fingerprint)

    @rule(name=names, definition=definitions, fingerprint=fingerprints)
    def add_encoding(self, name: str, definition: Definition, fingerprint: str) -> None:
        self.store.add_encoding(name, definition, fingerprint, matrix_of(definition, fingerprint))
        if name in self.model and self.model[name][0] == definition:
            self.model[name][1].add(fingerprint)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), fingerprint=fingerprints, threshold=st.none() | thresholds)
    def set_threshold(self, data: st.DataObject, fingerprint: str, threshold: float | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        definition, _, thresholds = self.model[name]
        made_under = definition.hash(fingerprint)
        calibration = UNCALIBRATED if threshold is None else manual(threshold, made_under)
        stored = self.store.set_calibration(name, fingerprint, made_under, lambda _: calibration)
        if threshold is not None or fingerprint in thresholds:
            self.changed(stored)
        thresholds.pop(fingerprint, None)
        if threshold is not None:
            thresholds[fingerprint] = threshold

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.store.delete(name)
        del self.model[name]

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert [summary.name for summary in self.store.page(9)[0]] == sorted(self.model)
        for name, (definition, encoders, thresholds) in self.model.items():
            for fingerprint in (FINGERPRINT, OTHER):
                stored = load(self.store, fingerprint, name)
                certificate = stored.calibration.certificate
                assert stored.definition == definition
                assert stored.revision == self.store.revision(name)
                assert stored.revision <= self.last_revision
                assert (stored.matrix is not None) == (fingerprint in encoders)
                assert stored.matrix is None or (stored.matrix == matrix_of(definition, fingerprint)).all()
                assert (certificate and certificate.threshold) == thresholds.get(fingerprint)
                assert stored.calibrated_elsewhere == bool(thresholds.keys() - {fingerprint})


TestAnySequenceOfWrites = StoreModel.TestCase
TestAnySequenceOfWrites.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)
