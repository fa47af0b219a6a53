"""Calibrations and embeddings, which belong to one encoder each."""

import pytest

from app.store import DetectorNotFound, Store, StoredDetector
from mcm.calibration import UNCALIBRATED, Calibration, manual
from mcm.errors import DefinitionMismatch
from tests.app.store.processes import FINGERPRINT
from tests.app.store.samples import CARS, OTHER, PETS, calibration_of, contents, create, load, matrix_of


def test_a_calibration_replaces_the_one_before(store: Store) -> None:
    create(store, calibration=calibration_of(PETS))
    hand_made = manual(0.25, PETS.hash(FINGERPRINT))
    stored = store.set_calibration("pets", FINGERPRINT, PETS.hash(FINGERPRINT), lambda _: hand_made)
    assert stored.calibration.certificate == hand_made.certificate
    assert stored.calibration.scores.size == 0
    assert stored.updated_at > stored.created_at


def test_scores_made_under_another_definition_are_refused(store: Store) -> None:
    created = create(store)
    for wrong in (CARS.hash(FINGERPRINT), PETS.hash(OTHER)):
        with pytest.raises(DefinitionMismatch):
            store.set_calibration("pets", FINGERPRINT, wrong, lambda _: calibration_of(CARS))
    assert contents(load(store)) == contents(created)


def test_calibrating_an_absent_detector_is_refused(store: Store) -> None:
    with pytest.raises(DetectorNotFound):
        store.set_calibration("pets", FINGERPRINT, PETS.hash(FINGERPRINT), lambda _: calibration_of(PETS))


def test_scores_stay_when_the_threshold_goes_and_both_can_go(store: Store) -> None:
    create(store, calibration=calibration_of(PETS))

    def without_threshold(stored: StoredDetector) -> Calibration:
        return Calibration(stored.calibration.scores, None)

    stored = store.update_calibration("pets", FINGERPRINT, without_threshold)
    assert stored.calibration.certificate is None
    assert stored.calibration.scores.size == 40
    assert load(store, OTHER).calibrated_elsewhere
    removed = store.update_calibration("pets", FINGERPRINT, lambda stored: UNCALIBRATED)
    assert removed.calibration.scores.size == 0
    assert not load(store, OTHER).calibrated_elsewhere
    again = store.update_calibration("pets", FINGERPRINT, lambda stored: UNCALIBRATED)
    assert contents(again) == contents(removed)


def test_a_change_that_raises_leaves_all_as_it_was(store: Store) -> None:
    created = create(store)

    def fail(stored: StoredDetector) -> Calibration:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.update_calibration("pets", FINGERPRINT, fail)
    assert contents(load(store)) == contents(created)
    create(store, "the next write works")


def test_another_encoder_finds_no_threshold_and_the_first_finds_all_again(store: Store) -> None:
    created = create(store, calibration=calibration_of(PETS))
    seen = load(store, OTHER)
    assert (seen.matrix, seen.calibration.certificate, seen.calibrated_elsewhere) == (None, None, True)
    store.add_encoding("pets", PETS, OTHER, matrix_of(PETS, OTHER))
    seen = load(store, OTHER)
    assert seen.matrix is not None
    assert (seen.calibration.certificate, seen.calibrated_elsewhere) == (None, True)
    assert contents(load(store)) == contents(created)


def test_embeddings_are_kept_once(store: Store) -> None:
    created = create(store)
    for _ in range(2):
        store.add_encoding("pets", PETS, OTHER, matrix_of(PETS, OTHER))
    store.add_encoding("pets", PETS, FINGERPRINT, matrix_of(PETS, OTHER))
    assert contents(load(store)) == contents(created)


def test_embeddings_of_a_definition_that_has_changed_meanwhile_are_not_kept(store: Store) -> None:
    create(store, definition=CARS)
    store.add_encoding("pets", PETS, OTHER, matrix_of(PETS, OTHER))
    assert load(store, OTHER).matrix is None
    store.add_encoding("gone", PETS, OTHER, matrix_of(PETS, OTHER))
    assert store.revision("gone") is None
