"""The schema, from nothing to what the code knows."""

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect

from app.store import Store, StoreUnavailable
from app.store.database import MIGRATIONS
from app.store.tables import Base
from tests.app.store.samples import PETS, calibration_of, contents, create, execute, load, run_alembic


def test_the_migrations_make_the_tables_that_the_code_knows(store: Store, url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


def test_migrating_again_changes_nothing(store: Store) -> None:
    created = create(store)
    store.migrate()
    assert contents(load(store)) == contents(created)


def test_every_migration_can_be_taken_back_and_repeated(store: Store, url: str) -> None:
    store.close()
    run_alembic(url, command.downgrade, "base")
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    store.migrate()
    assert contents(create(store)) == contents(load(store))


REMAKES_THE_DETECTORS = """
import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "0004"


def upgrade():
    with op.batch_alter_table("detectors", recreate="auto") as batch:
        batch.add_column(sa.Column("owner", sa.Text()))
        batch.alter_column("definition", nullable=True)
"""


def test_a_migration_that_remakes_a_table_keeps_what_refers_to_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = create(store, calibration=calibration_of(PETS))
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (tmp_path / "migrations/versions/v9999_next.py").write_text(REMAKES_THE_DETECTORS)
    monkeypatch.setattr("app.store.database.MIGRATIONS", tmp_path / "migrations")
    store.migrate()
    assert contents(load(store)) == contents(created)
    store.delete("pets")
    assert contents(create(store)) == contents(load(store))


def test_a_calibration_of_the_first_version_is_read_by_this_one(store: Store, url: str) -> None:
    created = create(store, calibration=calibration_of(PETS))
    store.close()
    run_alembic(url, command.downgrade, "0001")
    certificate = created.calibration.certificate
    assert certificate is not None
    first = asdict(certificate) | {"created_at": certificate.created_at.isoformat()}
    del first["concepts"]  # there were none
    execute(url, "UPDATE calibrations SET certificate = :text", text=json.dumps(first))
    store.migrate()
    assert contents(load(store)) == contents(created)


def test_a_database_of_a_newer_version_is_refused_in_one_line(store: Store, url: str) -> None:
    execute(url, "UPDATE alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(StoreUnavailable, match=r"newer version.*from-the-future") as caught:
        store.migrate()
    assert "\n" not in str(caught.value)


def test_migrating_makes_the_folder_and_leaves_logging_and_the_current_folder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    bystander = logging.getLogger("bystander")
    store = Store("sqlite:///new folder/50%/store.db")
    store.migrate()
    create(store)
    store.close()
    assert (root.handlers, root.level, bystander.disabled) == (handlers, level, False)
    assert [path.name for path in tmp_path.iterdir()] == ["new folder"]
    assert (tmp_path / "new folder/50%/store.db").is_file()
