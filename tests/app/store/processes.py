"""What other server processes do to the store in test_store.py; module level, so that they can be spawned."""

import resource
from multiprocessing.connection import Connection

import numpy as np

from app.store import Store, StoredDetector, StoreUnavailable
from mcm.calibration import Calibration
from mcm.definition import define
from mcm.embeddings import Vectors, unit_rows

FINGERPRINT = "encoder-a"


def large_matrix(seed: int) -> Vectors:
    """Concept embeddings (200, 512) that take a while to write."""
    return unit_rows(np.random.default_rng(seed).normal(size=(200, 512)))


def create_for_ever(url: str, first: int, created: Connection) -> None:
    """Create calibrated detectors `d<first>`, `d<first + 1>`, ..., and tell the number of each."""
    store = Store(url)
    store.migrate()
    definition = define([f"concept {i}" for i in range(200)])
    number = first
    while True:
        store.create(
            f"d{number}",
            definition,
            FINGERPRINT,
            large_matrix(number),
            calibration=Calibration(np.full(1000, float(number))),
            max_detectors=10**6,
        )
        created.send(number)
        number += 1


def append_score(store: Store, name: str, score: float) -> int:
    """Add one calibration score to what is there; the revision that this made."""

    def change(stored: StoredDetector) -> Calibration:
        return Calibration(np.append(stored.calibration.scores, score))

    return store.update_calibration(name, FINGERPRINT, change).revision


def append_scores(url: str, name: str, scores: list[float], revisions: Connection) -> None:
    """Add scores one by one, then tell the revisions that this made, or the error."""
    store = Store(url)
    try:
        store.migrate()
        revisions.send([append_score(store, name, score) for score in scores])
    except Exception as error:
        revisions.send(repr(error))
    finally:
        store.close()


def fill_the_disk(url: str, outcome: Connection) -> None:
    """Create detectors where files cannot grow beyond 1 MB; tell how many came in, and the error."""
    store = Store(url)
    store.migrate()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    created = 0
    try:
        while True:
            store.create(f"d{created}", define(["a", "b"]), FINGERPRINT, large_matrix(0), max_detectors=10**6)
            created += 1
    except StoreUnavailable as error:
        outcome.send((created, str(error)))
    store.close()
