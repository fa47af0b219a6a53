"""The engine under the store: SQLite settings, transactions, migrations and the one seam for errors."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from app.store.errors import StoreUnavailable
from app.store.tables import CounterRow

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_TIMEOUT_S = 30
_WRITES = "mcm_writes"
_SQLITE_REASONS = {
    "SQLITE_BUSY": "another program has locked it",
    "SQLITE_LOCKED": "another program has locked it",
    "SQLITE_READONLY": "it is read-only",
    "SQLITE_FULL": "its disk is full",
    "SQLITE_IOERR": "its disk is full or fails",
    "SQLITE_CANTOPEN": "its file cannot be opened",
    "SQLITE_CORRUPT": "its file is damaged",
    "SQLITE_NOTADB": "its file is not a database",
}
Identity = tuple[int, int]


class Database:
    """Connections to one database, from any thread.

    `read` gives no transaction: a read is one statement, and so a consistent snapshot. `write` gives a
    transaction that waits for its turn first, so that it never fails half-way because of another writer.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = make_url(url)
            self._engine = _open(self._url)
        except (ArgumentError, ImportError) as error:  # not a URL, or its driver is not installed
            raise StoreUnavailable(f"the database URL cannot be used: {error}") from error
        self._writer = self._engine.execution_options(**{_WRITES: True})
        self._turn = threading.Lock()
        self._file: Path | None = None  # of an SQLite database, once it is there
        self._identity: Identity | None = None

    def migrate(self) -> None:
        """Bring the tables up to this version of the code; on SQLite, make the file and its folder.

        Raises:
            StoreUnavailable: the database cannot be opened, or a newer version of the code made it.
        """
        if self._engine.dialect.name == "sqlite":
            _make_folder(Path(str(self._url.database)))
        with translated(), self._writer.connect() as connection:
            connection.detach()  # closed afterwards, and not given to anybody else
            if self._engine.dialect.name == "sqlite":
                _release_keys(connection)
            with connection.begin():
                config = alembic_config(connection)
                _refuse_newer(connection, config)
                command.upgrade(config, "head")
        if self._engine.dialect.name == "sqlite":
            self._file = Path(str(self._url.database))
            self._identity = _identity(self._file)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for one statement.

        Raises:
            StoreUnavailable: the database cannot be asked.
        """
        self._require_file()
        with translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction in which nobody else writes; rolled back if the block raises.

        Raises:
            StoreUnavailable: the database cannot be written, or the turn did not come in time.
        """
        # Writers of this process wait here and not in the database, where each would hold a connection
        # of the pool and keep readers out.
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise StoreUnavailable("the detector store is busy with other writes; try again")
        try:
            self._require_file()
            with translated(), self._writer.begin() as connection:
                # What BEGIN IMMEDIATE is to SQLite, this row's lock is to PostgreSQL.
                connection.execute(select(CounterRow.value).with_for_update())
                yield connection
        finally:
            self._turn.release()

    def _require_file(self) -> None:
        # SQLite goes on with a file that was removed or replaced, and what it writes there is lost.
        if self._file is not None and _identity(self._file) != self._identity:
            raise StoreUnavailable(
                "the detector store cannot be used: its file was removed or replaced; put it back or restart "
                "the service"
            )


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings for running commands on `connection`, with no file and no logging set up."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def translated() -> Iterator[None]:
    """Raise the database's errors as StoreUnavailable: the one seam for them."""
    try:
        yield
    except DBAPIError as error:
        raise StoreUnavailable(f"the detector store cannot be used{_reason(error.orig)}") from error
    except PoolTimeout as error:
        raise StoreUnavailable("the detector store is busy: no connection came free; try again") from error


def _reason(error: BaseException | None) -> str:
    """What a driver's error means, in our words: the driver's own are the cause, for logs only."""
    code = "_".join(str(getattr(error, "sqlite_errorname", "")).split("_")[:2])
    return f": {_SQLITE_REASONS[code]}" if code in _SQLITE_REASONS else ""


def _open(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreUnavailable("an SQLite store needs a file: sqlite:///PATH")
    engine = create_engine(url)
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    # The driver would begin transactions by itself, DEFERRED, which fail at once when two turn into writers.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    _use_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _use_wal(cursor: DBAPICursor) -> None:
    # Of servers that switch a new file together all but one are refused, at once, whatever the busy timeout.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITES):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _release_keys(connection: Connection) -> None:
    # To change a table SQLite makes it anew; dropping the old one would delete all rows that refer to it.
    cursor = connection.connection.cursor()  # past SQLAlchemy, which would begin a transaction: too late
    cursor.execute("PRAGMA foreign_keys = OFF")
    cursor.close()


def _identity(file: Path) -> Identity | None:
    """What stays while a file is written and moved, and differs for another file in its place."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make_folder(file: Path) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder of the detector store cannot be made: {error}") from error


def _refuse_newer(connection: Connection, config: Config) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
    if unknown:
        raise StoreUnavailable(
            f"a newer version of this service made the database (its schema is {', '.join(unknown)}); "
            "run that version or a later one, or restore a backup"
        )
