"""The registry's database: opening it, bringing its tables up to date, and transactions. It knows no merchants."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from shopfit.errors import RegistryError
from shopfit.registry.failures import database_failure, masked, storage_failure
from shopfit.registry.schema import FILES, HEAD, VERSION_TABLE

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x73686F70666974  # of PostgreSQL's advisory locks: "shopfit" in ASCII
_one_migration_at_a_time = threading.Lock()  # Alembic's context is a global of the process


class Database:
    """Transactions on the registry's tables.

    Args:
        engine: SQLAlchemy's, for SQLite or PostgreSQL.
        address: the database's URL, masked.
        patience: seconds that a writer waits for another one.
    """

    def __init__(self, engine: Engine, address: str, patience: float) -> None:
        self._engine = engine
        self._address = address
        self._patience = patience

    @classmethod
    def open(cls, url: str, *, patience: float) -> "Database":
        """Connect, and make or migrate the tables if need be.

        Args:
            url: `sqlite:///path` or `postgresql+psycopg://…`.
            patience: seconds to wait for another writer, and for a connection.

        Raises:
            RegistryError: if `url` is neither, cannot be reached, or holds tables newer than this release knows.
        """
        parsed = _parse(url)
        address = masked(url)
        database = cls(
            _sqlite(parsed, patience) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed, patience),
            address,
            patience,
        )
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the registry, and changes nothing.

        Raises:
            RegistryError: for whatever the database raises.
        """
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction that takes effect as a whole or not at all.

        Args:
            alone: no other writer may add or remove files meanwhile (on SQLite none ever does).

        Raises:
            RegistryError: for whatever the database raises.
        """
        with self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":
                # before any row's lock, so that writers and one that is `alone` cannot wait for each other in a circle
                mode = "SHARE ROW EXCLUSIVE" if alone else "ROW EXCLUSIVE"
                connection.execute(text(f"LOCK TABLE {FILES.name} IN {mode} MODE"))
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self._engine.execution_options(writes=writes).begin() as connection:
                if connection.dialect.name == "postgresql":
                    waiting = f"SET LOCAL lock_timeout = {int(self._patience * 1000)}"
                    snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                    connection.execute(text(waiting if writes else snapshot))
                yield connection
        except SQLAlchemyError as error:
            raise database_failure(self._address, error) from error

    def _migrate(self) -> None:
        with self.reading() as connection:
            if _revision(connection) == HEAD:
                return
        with _one_migration_at_a_time, self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            revision = _revision(connection)  # another process may have been faster
            if revision != HEAD:
                _upgrade(connection, revision, self._address)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or parsed.drivername not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise RegistryError(
            f"SHOPFIT_REGISTRY is {masked(url)!r} (allowed: sqlite:///path or postgresql+psycopg://user@host/database)",
            next_step="correct SHOPFIT_REGISTRY, or leave it out for a SQLite file under SHOPFIT_HOME",
        )
    if parsed.drivername == "sqlite" and parsed.database in {None, "", ":memory:"}:
        raise RegistryError(
            f"SHOPFIT_REGISTRY is {url!r}, which keeps nothing on disk",
            next_step="name a file, such as sqlite:////srv/shopfit/registry.db",
        )
    return parsed


def _sqlite(url: URL, patience: float) -> Engine:
    file = Path(url.database or "")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_failure(f"making the folder {file.parent}", error, variable="SHOPFIT_REGISTRY") from error
    engine = create_engine(url, connect_args={"timeout": patience})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions on its own, and late
        _write_ahead(connection, patience)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Readers and a writer at once. SQLite does not wait for its lock on this one change, so we do."""
    until = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _postgresql(url: URL, patience: float) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"connect_timeout": max(2, int(patience))},
        )
    except ImportError as error:
        raise RegistryError(
            "a registry in PostgreSQL needs the package psycopg", next_step="run `pip install 'shopfit[postgres]'`"
        ) from error


def _revision(connection: Connection) -> str | None:
    """The migration that the tables are at; None before the first."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()  # noqa: S608
    return found


def _upgrade(connection: Connection, revision: str | None, address: str) -> None:
    """Run the migrations after `revision`, in the transaction that `connection` is in."""
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise RegistryError(
            f"the registry {address} was made by a newer release (schema {revision}; this release knows up to {HEAD})",
            next_step="upgrade shopfit here: `pip install --upgrade shopfit`",
        )
    command.upgrade(config, "head")
