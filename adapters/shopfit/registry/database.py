"""The registry's database: connecting, migrations and transactions. The statements are in `rows`."""

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from shopfit.errors import RegistryError, RegistryUnavailable
from shopfit.registry.failures import database_failure, masked
from shopfit.registry.schema import FILES, HEAD, VERSION_TABLE
from shopfit.registry.sqlite import SqliteFile

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 0x73686F70666974  # key of a PostgreSQL advisory lock: "shopfit" in ASCII
_one_migration_at_a_time = threading.Lock()  # Alembic's context is a process-wide global


class Database:
    """Transactions on the registry's tables.

    Args:
        engine: SQLAlchemy's, for SQLite or PostgreSQL.
        address: the database's URL, masked.
        patience: seconds that a writer waits for another one.
        file: the SQLite file; None for PostgreSQL.
    """

    def __init__(self, engine: Engine, address: str, patience: float, file: SqliteFile | None = None) -> None:
        self._engine = engine
        self._reader = engine.execution_options(writes=False)  # of the same connections
        self._writer = engine.execution_options(writes=True)
        self._address = address
        self._patience = patience
        self._file = file
        self._changes = None if file is None else file.change_counter()

    @classmethod
    def open(cls, url: str, *, patience: float) -> "Database":
        """Connect, and create or migrate the tables if necessary.

        Args:
            url: `sqlite:///path` or `postgresql+psycopg://…`.
            patience: seconds to wait for another writer, and for a connection.

        Raises:
            RegistryError: if `url` is neither, cannot be reached, has tables newer than this release knows, or is
                read-only with missing or older tables.
        """
        parsed = _parse(url)
        address = masked(url)
        if parsed.get_backend_name() == "sqlite":
            file = SqliteFile(parsed, patience)
            database = cls(file.engine(), address, patience, file)
        else:
            database = cls(_postgresql(parsed, patience), address, patience)
        try:
            database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        if self._changes is not None:
            self._changes.close()

    def mark(self) -> Hashable | None:
        """What is another one after each commit, told without a transaction; None where that cannot be told."""
        return None if self._changes is None else self._changes.value()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read-only transaction on one consistent snapshot.

        Raises:
            RegistryError: for any error of the database.
        """
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """A transaction that takes effect as a whole or not at all.

        Args:
            alone: exclude all other writers meanwhile (on SQLite they always are).

        Raises:
            RegistryError: for any error of the database.
        """
        with self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":
                # taken before any row lock, so that writers and one that is `alone` cannot deadlock
                mode = "SHARE ROW EXCLUSIVE" if alone else "ROW EXCLUSIVE"
                connection.execute(text(f"LOCK TABLE {FILES.name} IN {mode} MODE"))
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        if writes and self._read_only:
            raise RegistryUnavailable(
                f"the registry {self._address} is read-only here, and cannot be changed",
                next_step="let this user write that file and its folder, or run the command where it can be written",
            )
        try:
            with (
                nullcontext() if self._file is None else self._file.unchanged(self._address),
                (self._writer if writes else self._reader).begin() as connection,
            ):
                if connection.dialect.name == "postgresql":
                    waiting = f"SET LOCAL lock_timeout = {int(self._patience * 1000)}"
                    snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                    connection.execute(text(waiting if writes else snapshot))
                yield connection
        except SQLAlchemyError as error:
            raise database_failure(self._address, error) from error

    @property
    def _read_only(self) -> bool:
        return self._file is not None and self._file.read_only

    def _migrate(self) -> None:
        with self.reading() as connection:
            revision = _revision(connection)
        if revision == HEAD:
            return
        if self._read_only:
            tables = "not made yet" if revision is None else f"those of schema {revision}; this release has {HEAD}"
            raise RegistryError(
                f"the registry {self._address} is read-only here, and its tables are {tables}",
                next_step="open it once with this release where it can be written, with `shopfit registry ls`",
            )
        with _one_migration_at_a_time, self._transaction(writes=True) as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})"))
            revision = _revision(connection)  # another process may have migrated meanwhile
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


def _postgresql(url: URL, patience: float) -> Engine:
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            hide_parameters=True,  # they hold hashes of keys, and names: neither logs nor tracebacks show them
            connect_args={"connect_timeout": max(2, int(patience))},
        )
    except ImportError as error:
        raise RegistryError(
            "a registry in PostgreSQL needs the package psycopg", next_step="run `pip install 'shopfit[postgres]'`"
        ) from error


def _revision(connection: Connection) -> str | None:
    """The revision of the tables; None before the first migration."""
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
