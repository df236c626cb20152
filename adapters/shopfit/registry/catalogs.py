"""Merchants' current catalogs: a stock or price that changes reaches the next answer, and nothing is trained again.

A catalog is one blob, items as lines of JSON, and a row that names it. A patch is made from what the row names, and
takes effect if the row still names that; else it is made again.
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from shopfit.adapter.bundle import MANIFEST
from shopfit.adapter.items import CATALOG, parsed, written
from shopfit.adapter.safe_reading import check_size, lines
from shopfit.errors import BundleError, DataError, RegistryError, UnknownCatalog
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.catalog_reading import given_catalog
from shopfit.registry import queries, validation
from shopfit.registry.catalog_changes import Changes, checked, patched
from shopfit.registry.files import VersionFiles
from shopfit.registry.merchants import check_known
from shopfit.registry.reference import PRODUCTION
from shopfit.registry.schema import CATALOGS
from shopfit.registry.serving import StoredCatalog

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_ATTEMPTS = 1000  # each failed one means that another process has changed the catalog meanwhile
_NO_KEY = "make its first key: `shopfit key create MERCHANT --scope publish --new`"


class Catalogs(VersionFiles):
    """The part of `Registry` that is about catalogs."""

    _patching: MutableMapping[str, threading.Lock]  # by merchant: so that patches of one process are not made in vain

    def put_catalog(self, merchant: str, items: Sequence[Mapping[str, Any]], *, actor: str) -> StoredCatalog:
        """Replace a merchant's catalog.

        Args:
            merchant: its name.
            items: as the lines of a `catalog.jsonl`: `id` and `title` in each, and what else is known. One or more.
            actor: who does, for the audit.

        Raises:
            DataError: with every bad item.
            UnknownMerchant: if the registry has neither versions nor keys of the merchant.
            RegistryError: if an argument is invalid, or the registry cannot be written.
        """
        name, actor, rows = validation.merchant(merchant), validation.actor(actor), validation.rows("items", items)
        with self._database.reading() as connection:
            check_known(connection, name, _NO_KEY)
        stored, content = _stored(name, given_catalog(rows), actor)
        with self._kept(stored, content) as connection:
            check_known(connection, name, _NO_KEY)  # it may have been erased meanwhile
            before = _row(connection, name, lock=True)
            self._store(connection, stored, content)
            queries.record(connection, actor, "catalog", name, "", 0, f"{stored.items} items; digest {stored.digest}")
            self._claim(connection)
        self._let_go(before)
        return stored

    def patch_catalog(self, merchant: str, changes: Changes, *, actor: str) -> StoredCatalog:
        """Change some items of a merchant's catalog; patches made at the same time all take effect.

        Where nothing is stored yet, it begins from the catalog in the bundle of a @production version: the one that has
        the most of the items named, and of several the newest.

        Args:
            merchant: its name.
            changes: by item: the fields that change, of which None removes one; or None to remove the item. A new item
                needs a title.
            actor: who does; it is kept with the catalog, but not in the audit, which a stock that changes would fill.

        Raises:
            DataError: with every bad change; then none is made.
            UnknownCatalog: if there is neither a catalog of the merchant nor a @production version that has one.
            RegistryError: if an argument is invalid, the stored catalog is damaged, or the registry cannot be written.
        """
        name, actor, wanted = validation.merchant(merchant), validation.actor(actor), checked(changes)
        with self._patching.setdefault(name, threading.Lock()):
            for _ in range(_ATTEMPTS):
                held, base = self._held(name), ""
                if held is None:
                    current, base = self._in_production(name, set(wanted))
                else:
                    current = held[0]
                stored, content = _stored(name, patched(current, wanted), actor)
                if self._exchange(None if held is None else held[1], stored, content, base):
                    return replace(stored, base=base)
        raise _busy(name)

    def catalog(self, merchant: str) -> Catalog | None:
        """A merchant's catalog; None if none was put, so that its adapters use those in their bundles.

        Raises:
            UnknownMerchant: if `merchant` cannot be one's name.
            RegistryError: if the stored catalog is damaged, or the registry cannot be read.
        """
        current = self.current_catalog(merchant)
        return None if current is None else current[0]

    def current_catalog(self, merchant: str) -> tuple[Catalog, StoredCatalog] | None:
        """The same with what is known of it; raises as `catalog` does."""
        return self._held(validation.merchant(merchant))

    def stored_catalog(self, merchant: str) -> StoredCatalog | None:
        """What is known of a merchant's catalog without reading it; None if none was put.

        Raises:
            UnknownMerchant: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        name = validation.merchant(merchant)
        with self._database.reading() as connection:
            return _row(connection, name)

    def catalogs(self) -> dict[str, str]:
        """The digest of every merchant's catalog, by name: what is cached of a catalog goes by it.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        statement = select(CATALOGS.c.merchant, CATALOGS.c.digest).order_by(CATALOGS.c.merchant)
        with self._database.reading() as connection:
            return {row.merchant: row.digest for row in connection.execute(statement)}

    def drop_catalog(self, merchant: str, *, actor: str) -> StoredCatalog:
        """Remove a merchant's catalog, so that its adapters use those in their bundles again.

        Args:
            merchant: its name.
            actor: who does, for the audit.

        Returns:
            what was removed.

        Raises:
            UnknownCatalog: if it has none.
            RegistryError: if an argument is invalid, or the registry cannot be written.
        """
        name, actor = validation.merchant(merchant), validation.actor(actor)
        with self._database.writing() as connection:
            before = _row(connection, name, lock=True)
            if before is None:
                raise UnknownCatalog(
                    f"there is no catalog of {name} in the registry", next_step="leave it: its bundles' are used"
                )
            connection.execute(delete(CATALOGS).where(CATALOGS.c.merchant == name))
            queries.record(connection, actor, "catalog-drop", name, "", 0, f"{before.items} items")
        self._let_go(before)
        return before

    def _held(self, merchant: str) -> tuple[Catalog, StoredCatalog] | None:
        """A merchant's catalog and its row, read again if it was replaced while it was read."""
        row = self.stored_catalog(merchant)
        for _ in range(_ATTEMPTS):
            if row is None:
                return None
            content = self._blobs.read(row.digest) if _DIGEST.fullmatch(row.digest) else None
            if content is not None:
                return _read(row, content), row
            before, row = row, self.stored_catalog(merchant)
            if row == before:
                raise _damaged(before, "its content is missing")
        raise _busy(merchant)

    def _in_production(self, merchant: str, items: set[str]) -> tuple[Catalog, str]:
        """The catalog in a bundle that a patch begins from, and the version's name."""
        with self._database.reading() as connection:
            versions = [one for one in queries.find_all(connection, merchant) if PRODUCTION in one.aliases]
        found: list[tuple[int, datetime, str, Catalog]] = []
        for version in versions:
            content = self.read(version, lambda paths: {MANIFEST, CATALOG} & set(paths)).read(CATALOG)
            if content is not None:
                catalog = parsed(content, f"{CATALOG} of {version.name}")
                found.append((sum(item in catalog for item in items), version.created, version.name, catalog))
        if not found:
            raise UnknownCatalog(
                f"there is no catalog of {merchant} to be patched, neither stored nor of a @{PRODUCTION} version",
                next_step="put a whole catalog first",
            )
        _, _, name, catalog = max(found, key=lambda one: one[:3])
        return catalog, name

    def _exchange(self, before: StoredCatalog | None, stored: StoredCatalog, content: bytes, base: str) -> bool:
        """Store a catalog in place of `before`; False if that is not stored any more."""
        with self._kept(stored, content) as connection:
            same = _row(connection, stored.merchant, lock=True) == before
            if before is None:
                check_known(connection, stored.merchant, _NO_KEY)
            done = same and self._store(connection, stored, content, only_new=before is None)
            if done and before is None:
                detail = f"{stored.items} items, from {base}; digest {stored.digest}"
                queries.record(connection, stored.actor, "catalog", stored.merchant, "", 0, detail)
            elif done:
                queries.touch(connection)
            self._claim(connection)
        self._let_go(before if done else stored)
        return done

    @contextmanager
    def _kept(self, stored: StoredCatalog, content: bytes) -> Iterator[Connection]:
        """A transaction that stores a catalog, whose content is there before; if it fails, that goes again."""
        self._blobs.put(content, stored.digest)
        try:
            with self._database.writing() as connection:
                yield connection
        except BaseException:
            self._let_go(stored)
            raise

    def _store(self, connection: Connection, stored: StoredCatalog, content: bytes, *, only_new: bool = False) -> bool:
        """Write a catalog's row; False if there is one already, and it was to be new."""
        if self._blobs.missing([stored.digest]):  # collected as garbage since; the transaction excludes more of that
            self._blobs.put(content, stored.digest)
        values = {name: value for name, value in asdict(stored).items() if name not in {"merchant", "base"}}
        statement = queries.upsert(connection, CATALOGS).values(merchant=stored.merchant, **values)
        if only_new:
            new = statement.on_conflict_do_nothing().execution_options(preserve_rowcount=True)
            return bool(connection.execute(new).rowcount)
        connection.execute(statement.on_conflict_do_update(index_elements=["merchant"], set_=values))
        return True

    def _let_go(self, stored: StoredCatalog | None) -> None:
        """Remove the content of a catalog that was replaced, unless it is another's, too."""
        if stored is not None:
            with suppress(RegistryError):  # what stays is collected as garbage
                self._free([stored.digest])


def _stored(merchant: str, catalog: Catalog, actor: str) -> tuple[StoredCatalog, bytes]:
    """A catalog as it is to be stored.

    Raises:
        DataError: if it is larger than what is read again.
    """
    content = written(catalog.values()).encode()
    try:
        check_size(CATALOG, len(content))
        deque(lines(content, "the catalog"), maxlen=0)  # raises for one that is too long
    except BundleError as error:
        raise DataError(error.message, next_step="leave out items, or what no recipe reads of them") from None
    digest = hashlib.sha256(content).hexdigest()
    return StoredCatalog(merchant, digest, len(catalog), len(content), datetime.now(UTC), actor), content


def _row(connection: Connection, merchant: str, *, lock: bool = False) -> StoredCatalog | None:
    statement = select(CATALOGS).where(CATALOGS.c.merchant == merchant)
    row = connection.execute(statement.with_for_update() if lock else statement).one_or_none()
    return None if row is None else StoredCatalog(**row._asdict())


def _read(row: StoredCatalog, content: bytes) -> Catalog:
    if hashlib.sha256(content).hexdigest() != row.digest:
        raise _damaged(row, "its content has changed")
    try:
        return parsed(content, f"the catalog of {row.merchant}")
    except BundleError as error:
        raise _damaged(row, error.message) from None


def _damaged(row: StoredCatalog, why: str) -> RegistryError:
    return RegistryError(
        f"the catalog of {row.merchant} in the registry is damaged: {why}", next_step="put the whole catalog again"
    )


def _busy(merchant: str) -> RegistryError:
    return RegistryError(f"other processes keep changing the catalog of {merchant}", next_step="do it again")
