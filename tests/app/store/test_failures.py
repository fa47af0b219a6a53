"""Databases that cannot be used: every one is StoreUnavailable, in one line."""

import re
from pathlib import Path

import pytest

from app.store import Store, StoreUnavailable
from tests.app.store import processes
from tests.app.store.processes import FINGERPRINT, large_matrix
from tests.app.store.samples import PETS, SPAWN, calibration_of, create, execute, load


@pytest.mark.parametrize(
    "url",
    ["nonsense", "foo://host/db", "sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"],
)
def test_a_url_that_cannot_be_used_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database, but long enough to look at. " * 100)
    store = Store(f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(StoreUnavailable, match="not a database") as caught:
        store.migrate()
    assert caught.value.__cause__ is not None
    store.close()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="folder"):
        Store(f"sqlite:///{tmp_path}/file/store.db").migrate()


def test_a_store_without_tables_cannot_be_used(url: str) -> None:
    store = Store(url)
    for use in (store.count, lambda: create(store), lambda: store.delete("pets")):
        with pytest.raises(StoreUnavailable, match="cannot be used") as caught:
            use()
        assert re.search("counters|detectors", str(caught.value.__cause__))
    store.close()


def test_a_file_damaged_under_a_running_server_is_an_error_of_the_store(
    sqlite_url: str, tmp_path: Path
) -> None:
    store = Store(sqlite_url)
    store.migrate()
    create(store)
    store.close()
    file = tmp_path / "store.db"
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    with pytest.raises(StoreUnavailable):
        store.load("pets", FINGERPRINT)
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE detectors SET definition = '{\"concepts\"'",
        "UPDATE detectors SET definition = '{}'",
        "UPDATE detectors SET definition = replace(definition, '\"mcm\"', '\"score-of-the-future\"')",
        "UPDATE encodings SET k = k + 1",
        "UPDATE calibrations SET certificate = '{}'",
    ],
)
def test_a_record_that_cannot_be_understood_names_its_detector(store: Store, url: str, damage: str) -> None:
    create(store, calibration=calibration_of(PETS))
    execute(url, damage)
    with pytest.raises(StoreUnavailable, match="'pets' is damaged"):
        store.load("pets", FINGERPRINT)


def test_a_full_disk_is_an_error_of_the_store_and_spoils_nothing(sqlite_url: str) -> None:
    receiver, sender = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=processes.fill_the_disk, args=(sqlite_url, sender))
    process.start()
    created, message = receiver.recv()
    process.join()
    store = Store(sqlite_url)
    assert (store.count(), message) == (
        created,
        "the detector store cannot be used: its disk is full or fails",
    )
    for number in range(created):
        stored = load(store, name=f"d{number}")
        assert stored.matrix is not None
        assert stored.matrix.tobytes() == large_matrix(0).tobytes()
    create(store, "room-again")
    store.close()
