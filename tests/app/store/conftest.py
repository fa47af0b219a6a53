"""Stores on a real database: an SQLite file, or the database that MCM_TEST_DATABASE_URL names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store import Store
from app.store.tables import Base
from tests.app.store.samples import GIVEN_URL, execute


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture
def url(sqlite_url: str) -> str:
    if GIVEN_URL is None:
        return sqlite_url
    tables = [*reversed(Base.metadata.sorted_tables), "alembic_version"]
    execute(GIVEN_URL, f"DROP TABLE IF EXISTS {', '.join(map(str, tables))}")
    return GIVEN_URL


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture
def second(store: Store, url: str) -> Iterator[Store]:
    """Another server on the same database."""
    opened = Store(url)
    yield opened
    opened.close()
