"""What the store keeps of the images since a calibration."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.store import Store
from mcm.calibration import UNCALIBRATED, Calibration
from mcm.drift import Drift, advance, begin, bins_of
from tests.app.store.processes import FINGERPRINT
from tests.app.store.samples import CARS, OTHER, PETS, calibration_of, create, execute, load, put

CALIBRATION = calibration_of(PETS)


def more(drift: Drift | None, images: int = 5, score: float = 0.3) -> Drift:
    bins = bins_of(CALIBRATION)
    located = bins.locate(np.full(images, score))
    return advance(bins, drift or begin(bins), located, np.ones(images, dtype=bool))


def seen(store: Store, fingerprint: str = FINGERPRINT) -> int:
    kept = store.drift("pets", fingerprint)
    return 0 if kept is None else kept.drift.images


@pytest.fixture
def revision(store: Store) -> int:
    """Of a detector that has seen 5 images."""
    revision = create(store, calibration=CALIBRATION).revision
    assert store.advance_drift("pets", FINGERPRINT, revision, more) is not None
    return revision


def test_what_is_kept_comes_back_to_the_last_bit(store: Store, second: Store, revision: int) -> None:
    told = store.advance_drift("pets", FINGERPRINT, revision, more)
    assert second.drift("pets", FINGERPRINT) == told
    assert second.drifts(FINGERPRINT) == {"pets": told}
    assert told is not None
    assert told.drift == more(more(None))


def test_the_time_of_the_first_image_and_of_the_alarm_stay(store: Store, revision: int) -> None:
    first = store.drift("pets", FINGERPRINT)
    assert first is not None
    assert first.alarm_at is None
    alarmed = store.advance_drift("pets", FINGERPRINT, revision, lambda drift: more(drift, 100))
    later = store.advance_drift("pets", FINGERPRINT, revision, more)
    assert alarmed is not None
    assert later is not None
    assert first.since == alarmed.since == later.since
    assert alarmed.alarm_at == later.alarm_at == alarmed.updated_at < later.updated_at


def test_many_writers_lose_no_image(store: Store, second: Store, revision: int) -> None:
    with ThreadPoolExecutor(8) as threads:
        for done in [
            threads.submit(server.advance_drift, "pets", FINGERPRINT, revision, more)
            for server in [store, second] * 20
        ]:
            done.result()
    assert seen(store) == 5 + 40 * 5


def test_images_of_another_revision_are_not_kept(store: Store, revision: int) -> None:
    assert store.advance_drift("pets", FINGERPRINT, revision + 1, more) is None
    assert store.advance_drift("dogs", FINGERPRINT, revision, more) is None
    assert seen(store) == 5


def test_what_is_kept_goes_with_the_calibration(store: Store, revision: int) -> None:
    store.update_calibration("pets", FINGERPRINT, lambda _: Calibration(CALIBRATION.scores, None))
    assert store.drift("pets", FINGERPRINT) is None
    assert store.drifts(FINGERPRINT) == {}


def test_what_is_kept_goes_with_the_definition_and_with_the_detector(store: Store, revision: int) -> None:
    put(store, CARS)
    assert store.drift("pets", FINGERPRINT) is None
    revision = put(store, PETS, calibration=CALIBRATION).stored.revision
    store.advance_drift("pets", FINGERPRINT, revision, more)
    store.delete("pets")
    create(store, calibration=CALIBRATION)
    assert store.drift("pets", FINGERPRINT) is None


def test_what_is_kept_stays_where_nothing_changes_or_another_encoder_calibrates(
    store: Store, revision: int
) -> None:
    put(store, PETS, calibration=load(store).calibration)
    store.update_calibration("pets", FINGERPRINT, lambda stored: stored.calibration)
    store.update_calibration("pets", OTHER, lambda _: calibration_of(PETS, OTHER))
    store.update_calibration("pets", OTHER, lambda _: UNCALIBRATED)
    assert (seen(store), seen(store, OTHER)) == (5, 0)


@pytest.mark.parametrize("record", ['{"scheme": 0}', '{"scheme": 1}', "{", "[]"])
def test_what_other_rules_have_kept_or_is_damaged_begins_anew(
    store: Store, revision: int, url: str, record: str
) -> None:
    execute(url, "UPDATE drifts SET drift = :record", record=record)
    assert store.drift("pets", FINGERPRINT) is None
    store.advance_drift("pets", FINGERPRINT, revision, more)
    assert seen(store) == 5
