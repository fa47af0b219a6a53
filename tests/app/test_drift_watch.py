"""The watch and its readings, without a service around them."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from app.catalog import NamedDetector
from app.drift import DriftWatch
from app.drift_readings import DriftReadings
from app.metrics import MAX_DETECTORS, OTHER_DETECTORS
from app.store import Store, StoredDrift, StoreUnavailable
from mcm.calibration import calibrate
from mcm.definition import define
from mcm.detector import Detector
from mcm.drift import Drift, advance, begin, bins_of
from mcm.embeddings import unit_rows

CALIBRATION = calibrate(np.random.default_rng(0).uniform(0.4, 0.6, 200), "hash")
ROWS = unit_rows(np.random.default_rng(1).normal(size=(10, 4)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(f"sqlite:///{tmp_path / 'mcm.db'}")
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def named(store: Store) -> NamedDetector:
    definition, matrix = define(["cat", "dog"]), unit_rows(np.eye(2, 4))
    stored = store.create("pets", definition, "encoder", matrix, calibration=CALIBRATION, max_detectors=10)
    return NamedDetector(stored, Detector(definition, "encoder", matrix, CALIBRATION))


def current(watch: DriftWatch) -> StoredDrift | None:
    return asyncio.run(watch.current("pets"))


def images(watch: DriftWatch) -> int:
    kept = current(watch)
    return 0 if kept is None else kept.drift.images


def test_servers_put_their_images_behind_each_others(store: Store, named: NamedDetector) -> None:
    watches = [DriftWatch(store, "encoder") for _ in range(3)]
    verdicts = named.detector.judge(ROWS)
    for watch in watches * 2:
        watch.observe(named, verdicts)
    assert [images(watch) for watch in watches] == [20, 40, 60]
    assert [images(watch) for watch in watches] == [60, 60, 60]


def test_images_wait_for_a_store_that_is_away_and_come_in_their_order(
    store: Store, named: NamedDetector, tmp_path: Path
) -> None:
    watch, steady = DriftWatch(store, "encoder"), DriftWatch(store, "encoder")
    first, second = named.detector.judge(ROWS[:4]), named.detector.judge(ROWS[4:])
    database, aside = tmp_path / "mcm.db", tmp_path / "aside"
    watch.observe(named, first)
    database.rename(aside)
    with pytest.raises(StoreUnavailable):
        images(watch)
    watch.observe(named, second)
    aside.rename(database)
    kept = current(watch)
    assert kept is not None
    bins = bins_of(CALIBRATION)
    scores = [verdict.score for verdict in (*first, *second)]
    assert kept.drift == advance(bins, begin(bins), bins.locate(scores), np.zeros(10, dtype=bool))
    assert images(steady) == 10


def test_who_asks_and_leaves_takes_no_image_along(store: Store, named: NamedDetector, tmp_path: Path) -> None:
    watch = DriftWatch(store, "encoder")
    watch.observe(named, named.detector.judge(ROWS))
    other = Store(f"sqlite:///{tmp_path / 'mcm.db'}")

    async def ask_and_leave() -> int:
        with other.write():
            asking = [asyncio.create_task(watch.current("pets")) for _ in range(3)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # they have taken what there is, and wait for the store
            for ask in asking:
                ask.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        kept = await watch.current("pets")
        return 0 if kept is None else kept.drift.images

    assert asyncio.run(ask_and_leave()) == 10
    other.close()


def test_images_that_find_no_room_while_the_store_is_away_are_said_to_be_uncounted(
    store: Store, named: NamedDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drift.MAX_WAITING", 25)
    watch = DriftWatch(store, "encoder")
    for _ in range(4):
        watch.observe(named, named.detector.judge(ROWS))
    assert watch.uncounted == 20
    assert images(watch) == 20
    watch.observe(named, named.detector.judge(ROWS))
    assert images(watch) == 30


def test_images_judged_by_an_older_revision_are_left_out(store: Store, named: NamedDetector) -> None:
    watch = DriftWatch(store, "encoder")
    newer = replace(named, stored=replace(named.stored, revision=named.stored.revision + 1))
    watch.observe(newer, named.detector.judge(ROWS))
    watch.observe(named, named.detector.judge(ROWS))
    assert images(watch) == 0  # the store knows of no such revision, and of no images at the one before
    watch.observe(named, named.detector.judge(ROWS))
    assert images(watch) == 10


def test_a_locked_store_does_not_hold_the_end_up(store: Store, named: NamedDetector, tmp_path: Path) -> None:
    watch = DriftWatch(store, "encoder")
    watch.observe(named, named.detector.judge(ROWS))
    other = Store(f"sqlite:///{tmp_path / 'mcm.db'}")

    async def stop() -> float:
        began = asyncio.get_running_loop().time()
        await watch.stop()
        return asyncio.get_running_loop().time() - began

    with other.write():
        assert asyncio.run(stop()) < 20  # and not the 30 seconds that a writer waits
    other.close()


def test_gauges_are_bounded_and_no_alarm_is_lost(store: Store) -> None:
    watch = DriftWatch(store, "encoder")
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    calm = begin(bins_of(CALIBRATION))

    def kept(minutes: int, drift: Drift) -> StoredDrift:
        return StoredDrift(begun + timedelta(minutes=minutes), begun, None, drift)

    watch.kept = {f"d{i}": kept(i, calm) for i in range(MAX_DETECTORS + 50)}
    watch.kept[f"d{MAX_DETECTORS + 20}"] = kept(999, replace(calm, alarm_after=7))
    metrics = {metric.name: metric.samples for metric in DriftReadings(watch).collect()}
    alarms = {sample.labels["detector"]: sample.value for sample in metrics["mcm_drift_alarm"]}
    assert len(alarms) == MAX_DETECTORS + 1
    assert (alarms["d0"], alarms[f"d{MAX_DETECTORS - 1}"], alarms[OTHER_DETECTORS]) == (0, 0, 1)
    labelled = itertools.chain(*metrics.values())
    assert {s.labels["detector"] for s in labelled if s.labels} == alarms.keys()
