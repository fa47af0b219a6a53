"""Detectors to store, and shorthands for storing them."""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sqlalchemy import create_engine, text

from app.store import Store, StoredDetector
from app.store.database import alembic_config
from mcm.calibration import Calibration, calibrate
from mcm.definition import Definition, define
from mcm.embeddings import Vectors, unit_rows
from tests.app.store.processes import FINGERPRINT

GIVEN_URL = os.environ.get("MCM_TEST_DATABASE_URL")
OTHER = "encoder-b"
PETS = define(["cat", "dog"])
CARS = define(["car", "bus", "tram"], templates=["a blurry {}", "one {}"], score="energy", temperature=0.5)
SPAWN = multiprocessing.get_context("spawn")


def matrix_of(definition: Definition, fingerprint: str = FINGERPRINT) -> Vectors:
    seed = len(definition.concepts) + len(fingerprint) + ord(fingerprint[-1])
    return unit_rows(np.random.default_rng(seed).normal(size=(len(definition.concepts), 8)))


def calibration_of(definition: Definition, fingerprint: str = FINGERPRINT) -> Calibration:
    return calibrate(np.linspace(0.4, 0.6, 40), definition.hash(fingerprint))


def run_alembic(url: str, run: Callable[..., Any], *arguments: Any) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        run(alembic_config(connection), *arguments)
    engine.dispose()


def execute(url: str, statement: str, **values: Any) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def create(store: Store, name: str = "pets", definition: Definition = PETS, **options: Any) -> StoredDetector:
    options = {"max_detectors": 1000} | options
    return store.create(name, definition, FINGERPRINT, matrix_of(definition), **options)


def put(store: Store, definition: Definition, fingerprint: str = FINGERPRINT, **options: Any) -> Any:
    options = {"max_detectors": 1000} | options
    return store.replace("pets", definition, fingerprint, matrix_of(definition, fingerprint), **options)


def load(store: Store, fingerprint: str = FINGERPRINT, name: str = "pets") -> StoredDetector:
    stored = store.load(name, fingerprint)
    assert stored is not None
    return stored


def contents(stored: StoredDetector) -> tuple[Any, ...]:
    """All that a stored detector holds, comparable to the last bit."""
    matrix, calibration = stored.matrix, stored.calibration
    return (
        (stored.name, stored.revision, stored.definition, stored.created_at, stored.updated_at),
        None if matrix is None else (matrix.dtype, matrix.shape, matrix.tobytes()),
        (calibration.scores.dtype, calibration.scores.tobytes(), calibration.certificate, calibration.groups),
        stored.calibrated_elsewhere,
    )
