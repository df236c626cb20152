"""A registry in an SQLite file: concurrent processes, read-only readers, and restores of a backup while it is open.

What SQLite needs to read a write-ahead log without write permission: https://sqlite.org/wal.html#readonly.
"""

import sqlite3
import threading
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from shopfit.errors import RegistryUnavailable
from shopfit.registry.failures import storage_failure
from shopfit.settings import may_write

_READ_ONLY, _ALONE = "mode=ro", "mode=ro&immutable=1"


class SqliteFile:
    """The file of an SQLite URL. Without write permission on it or its folder, it is opened read-only.

    Args:
        url: of SQLAlchemy, for SQLite.
        patience: seconds to wait for another process's lock.

    Raises:
        RegistryError: if its folder does not exist and cannot be created, or nor can the file.
    """

    def __init__(self, url: URL, patience: float) -> None:
        self._url = url
        self._patience = patience
        self._path = Path((url.database or "").removeprefix("file:")).absolute()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"making the folder {self._path.parent}"
            raise storage_failure(what, error, variable="SHOPFIT_REGISTRY") from error
        self._made = there = self._path.exists()
        self.read_only = not may_write(self._path.parent) or (there and not may_write(self._path))
        if self.read_only and not there:
            raise RegistryUnavailable(
                f"there is no registry in {self._path}, and none can be made there: the folder is read-only",
                next_step="let this user write there, or set SHOPFIT_REGISTRY or SHOPFIT_HOME to where it is",
            )

    def engine(self) -> Engine:
        """SQLAlchemy's engine on it."""
        pool: dict[str, Any] = {"poolclass": NullPool} if self.read_only else {}
        # parameters hold hashes of keys, and names: neither logs nor tracebacks show them
        engine = create_engine(self._url, connect_args={"timeout": self._patience}, hide_parameters=True, **pool)
        event.listen(engine, "do_connect", self._name)
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "checkout", self._check)
        event.listen(engine, "begin", _begin)
        return engine

    def change_counter(self) -> "ChangeCounter | None":
        """What tells cheaply whether anything changed; None where it is read without locks."""
        return None if self.read_only else ChangeCounter(self._path)

    @contextmanager
    def unchanged(self, address: str) -> Iterator[None]:
        """A context that checks that the file, if it is read without locks, does not change meanwhile.

        Raises:
            RegistryError: if another process changed it.
        """
        before = self._state()
        yield
        if before != self._state():
            raise RegistryUnavailable(
                f"the registry {address} changed while it was read", next_step="run the command again"
            )

    def _state(self) -> tuple[int, ...] | None:
        if not self.read_only or self._mode() != _ALONE:
            return None
        found = self._path.stat()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _mode(self) -> str:
        """The open mode. Once the file existed it is never created again, as a restore may just be replacing it."""
        if not self.read_only:
            return "mode=rw" if self._made else "mode=rwc"
        log, index = (self._path.with_name(self._path.name + suffix) for suffix in ("-wal", "-shm"))
        if index.exists() and log.exists():
            return _READ_ONLY
        if log.exists() and log.stat().st_size:
            raise RegistryUnavailable(
                f"{log.name} holds changes to {self._path} that cannot be read where nothing may be written",
                next_step="open the registry once where it can be written, with `shopfit registry ls`; then copy it",
            )
        return _ALONE  # no process has it open, so locks are not needed, and not possible

    def _name(self, _dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> None:
        if not options.get("uri"):  # else it is the user's own URI, left as it is
            arguments[0], options["uri"] = f"{self._path.as_uri()}?{self._mode()}", True

    def _prepare(self, connection: Any, record: Any) -> None:
        self._made = True
        record.info["file"] = self._identity()
        connection.isolation_level = None  # sqlite3 would begin transactions on its own, and late
        if not self.read_only:
            _write_ahead(connection, self._patience)
        for pragma in ("synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    def _check(self, _connection: Any, record: Any, _proxy: Any) -> None:
        """Drop connections to a file that was since replaced by a restore: they still read the old one."""
        if record.info["file"] != self._identity():
            raise InvalidatePoolError

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino


class ChangeCounter:
    """Tells whether a transaction on an SQLite file was committed, in a hundredth of the time of one that reads.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[tuple[int, int], sqlite3.Connection] | None = None
        self._number = 0  # of the connection: each counts from anywhere
        self._asking = threading.Lock()

    def value(self) -> Hashable | None:
        """Another one after each commit, and when the file was replaced; None if it cannot be told.

        https://sqlite.org/pragma.html#pragma_data_version
        """
        with self._asking:
            try:
                found = self._path.stat()
                file = found.st_dev, found.st_ino
                if self._opened is None or self._opened[0] != file:
                    self._close()
                    uri = f"{self._path.as_uri()}?mode=rw"
                    self._opened = file, sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=0)
                    self._number += 1
                cursor = self._opened[1].execute("PRAGMA data_version")
                try:
                    return self._number, cursor.fetchone()[0]
                finally:
                    cursor.close()
            except (OSError, sqlite3.Error):
                self._close()
                return None

    def close(self) -> None:
        """Close its connection; the next value opens another one."""
        with self._asking:
            self._close()

    def _close(self) -> None:
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _write_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Switch to write-ahead logging. SQLite does not wait for the lock that this needs, so we retry."""
    until = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").close()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
