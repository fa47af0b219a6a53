"""Creating, listing, replacing and deleting detectors."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app.store import DetectorNotFound, NameTaken, RevisionMismatch, Store, TooManyDetectors
from mcm.calibration import manual
from mcm.definition import define
from tests.app.store.processes import FINGERPRINT
from tests.app.store.samples import CARS, OTHER, PETS, calibration_of, contents, create, load, matrix_of, put


def test_a_created_detector_loads_as_it_was_given(store: Store) -> None:
    before = datetime.now(UTC)
    created = create(store, calibration=calibration_of(PETS))
    assert contents(load(store)) == contents(created)
    assert (created.name, created.definition) == ("pets", PETS)
    assert created.revision == store.revision("pets")
    assert before <= created.created_at == created.updated_at <= datetime.now(UTC)
    assert created.created_at.utcoffset() == timedelta(0)
    assert created.matrix is not None
    assert created.matrix.tobytes() == matrix_of(PETS).tobytes()
    assert created.calibration.certificate is not None
    assert not created.calibrated_elsewhere


def test_a_detector_outlives_the_process_that_stored_it(store: Store, second: Store) -> None:
    created = create(store, calibration=calibration_of(PETS))
    store.close()
    assert contents(load(second)) == contents(created)


def test_an_absent_detector_is_none(store: Store) -> None:
    assert store.revision("pets") is None
    assert store.load("pets", FINGERPRINT) is None
    assert store.count() == 0
    assert store.page(10) == ([], None)


def test_a_taken_name_is_refused_and_its_detector_stays(store: Store) -> None:
    created = create(store)
    with pytest.raises(NameTaken, match="pets"):
        create(store, definition=CARS)
    assert contents(load(store)) == contents(created)


def test_detectors_over_the_limit_are_refused(store: Store) -> None:
    create(store, max_detectors=1)
    with pytest.raises(TooManyDetectors, match="limit of 1 "):
        create(store, "more", max_detectors=1)
    with pytest.raises(TooManyDetectors):
        store.replace("more", PETS, FINGERPRINT, matrix_of(PETS), max_detectors=1)
    with pytest.raises(NameTaken):
        create(store, max_detectors=1)
    assert put(store, CARS, max_detectors=1).stored.definition == CARS
    assert store.count() == 1


def test_a_deleted_detector_takes_all_its_parts_along(store: Store, url: str) -> None:
    create(store, calibration=calibration_of(PETS))
    store.delete("pets")
    assert store.load("pets", FINGERPRINT) is None
    engine = create_engine(url)
    with engine.connect() as connection:
        for table in ("encodings", "calibrations"):
            assert connection.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    engine.dispose()


def test_revisions_rise_with_each_change_and_never_repeat(store: Store) -> None:
    seen = [
        create(store).revision,
        store.update_calibration("pets", FINGERPRINT, lambda _: calibration_of(PETS)).revision,
        put(store, CARS).stored.revision,
    ]
    store.delete("pets")
    seen.append(create(store).revision)
    seen.append(create(store, "other").revision)
    assert seen == sorted(set(seen))


def test_pages_hold_every_detector_once_in_the_order_of_names(store: Store) -> None:
    names = ["b", "a-b", "ab", "a.b", "a_b", "a", "0", "aa", "z9", "z10"]
    for name in names:
        create(store, name, CARS)
    found, after, sizes = [], None, []
    while True:
        page, after = store.page(4, after)
        found += page
        sizes.append(len(page))
        if after is None:
            break
    assert [summary.name for summary in found] == sorted(names)
    assert sizes == [4, 4, 2]
    assert store.count() == 10
    assert (found[0].score, found[0].k, found[0].definition) == ("energy", 3, CARS)
    assert found[0].revision == store.revision("0")
    assert found[0].created_at == load(store, name="0").created_at


def test_a_full_last_page_ends_the_list(store: Store) -> None:
    create(store, "a")
    create(store, "b")
    assert store.page(2)[1] is None


def test_replacing_an_absent_detector_creates_it(store: Store) -> None:
    replaced = put(store, PETS, calibration=calibration_of(PETS))
    assert (replaced.created, replaced.dropped_calibration) == (True, False)
    assert contents(load(store)) == contents(replaced.stored)
    assert replaced.stored.calibration.certificate is not None


def test_the_same_definition_changes_nothing(store: Store) -> None:
    created = create(store, calibration=calibration_of(PETS))
    replaced = put(store, define(["cat", "dog"]))
    assert (replaced.created, replaced.dropped_calibration) == (False, False)
    assert contents(replaced.stored) == contents(created) == contents(load(store))


def test_the_same_definition_from_another_encoder_adds_its_embeddings_only(store: Store) -> None:
    created = create(store)
    replaced = put(store, PETS, OTHER)
    assert replaced.stored.revision == created.revision
    assert replaced.stored.matrix is not None
    assert replaced.stored.matrix.tobytes() == matrix_of(PETS, OTHER).tobytes()
    assert contents(load(store)) == contents(created)


def test_another_definition_keeps_nothing_of_the_old_one_under_any_encoder(store: Store) -> None:
    created = create(store)
    store.add_encoding("pets", PETS, OTHER, matrix_of(PETS, OTHER))
    store.set_calibration("pets", OTHER, PETS.hash(OTHER), lambda _: manual(0.5, PETS.hash(OTHER)))
    replaced = put(store, CARS)
    assert (replaced.created, replaced.dropped_calibration) == (False, True)
    assert replaced.stored.created_at == created.created_at < replaced.stored.updated_at
    for fingerprint in (FINGERPRINT, OTHER):
        stored = load(store, fingerprint)
        assert stored.definition == CARS
        assert stored.calibration.certificate is None
        assert not stored.calibrated_elsewhere
    assert load(store, OTHER).matrix is None
    assert replaced.stored.matrix is not None
    assert replaced.stored.matrix.tobytes() == matrix_of(CARS).tobytes()
    assert not put(store, PETS).dropped_calibration


def test_a_given_calibration_comes_into_force_once(store: Store) -> None:
    first = create(store)
    calibration = calibration_of(PETS)
    second = put(store, PETS, calibration=calibration).stored
    assert second.revision > first.revision
    assert second.calibration.certificate == calibration.certificate
    assert put(store, PETS, calibration=calibration).stored.revision == second.revision
    changed = put(store, CARS, calibration=calibration_of(CARS))
    assert changed.dropped_calibration
    assert changed.stored.calibration.certificate is not None


@pytest.mark.parametrize(
    "write",
    [
        lambda store, **options: put(store, CARS, **options),
        lambda store, **options: store.delete("pets", **options),
        lambda store, **options: store.set_calibration(
            "pets", FINGERPRINT, PETS.hash(FINGERPRINT), lambda _: calibration_of(PETS), **options
        ),
        lambda store, **options: store.update_calibration(
            "pets", FINGERPRINT, lambda stored: calibration_of(PETS), **options
        ),
    ],
    ids=["replace", "delete", "set_calibration", "update_calibration"],
)
def test_writes_honour_the_revision_that_the_caller_saw(store: Store, write: Callable[..., Any]) -> None:
    old = create(store).revision
    current = store.set_calibration(
        "pets", FINGERPRINT, PETS.hash(FINGERPRINT), lambda _: manual(0.1, PETS.hash(FINGERPRINT))
    )
    with pytest.raises(RevisionMismatch, match=f"is at revision {current.revision}"):
        write(store, if_match=old)
    assert contents(load(store)) == contents(current)
    write(store, if_match=current.revision)
    assert store.revision("pets") != current.revision


def test_an_absent_detector_is_at_no_revision(store: Store) -> None:
    with pytest.raises(RevisionMismatch, match="does not exist"):
        put(store, PETS, if_match=1)
    with pytest.raises(DetectorNotFound, match="pets"):
        store.delete("pets", if_match=1)
    assert store.count() == 0


def test_many_revisions_are_asked_for_at_once_and_what_is_not_there_is_left_out(store: Store) -> None:
    for name in ("a", "b"):
        create(store, name)
    assert store.revisions(["b", "none", "a", "b"]) == {"a": store.revision("a"), "b": store.revision("b")}
    assert store.revisions([]) == {}
