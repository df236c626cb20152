"""What people look at: how much each adapter takes, and the audit a page at a time. The database counts both."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select

from shopfit.registry import queries, validation
from shopfit.registry.database import Database
from shopfit.registry.reference import PRODUCTION
from shopfit.registry.schema import ALIASES, AUDIT, VERSIONS
from shopfit.registry.version import AuditEntry


@dataclass(frozen=True, slots=True)
class Stored:
    """What the registry has of an adapter.

    Args:
        merchant: whose it is.
        recipe: of the adapter.
        versions: how many there are.
        newest: number of the last one.
        bytes: of all their files; the same file in two versions is counted twice, and kept once.
        production: number of the version in production; None if none is.
    """

    merchant: str
    recipe: str
    versions: int
    newest: int
    bytes: int
    production: int | None


class Mark(NamedTuple):
    """A place in the audit: up to where somebody has read what changed.

    Args:
        id: of the last entry; 0 before any.
        at: its time, as after a restored backup other entries may have the same ids; None before any.
    """

    id: int = 0
    at: datetime | None = None


class Overview:
    """The part of `Registry` that sums up."""

    _database: Database

    def stored(self, merchant: str | None = None) -> list[Stored]:
        """What there is of every adapter, or of a merchant's; by name.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        wanted = [] if merchant is None else [VERSIONS.c.merchant == validation.merchant(merchant)]
        named = [VERSIONS.c[column] == ALIASES.c[column] for column in ("merchant", "recipe", "number")]
        adapter = (VERSIONS.c.merchant, VERSIONS.c.recipe)
        sums = select(*adapter, func.count(), func.max(VERSIONS.c.number), func.sum(VERSIONS.c.size))
        serving = select(*adapter, VERSIONS.c.number).where(*named, ALIASES.c.alias == PRODUCTION, *wanted)
        with self._database.reading() as connection:
            rows = connection.execute(sums.where(*wanted).group_by(*adapter).order_by(*adapter)).all()
            production = {(row.merchant, row.recipe): row.number for row in connection.execute(serving)}
        return [
            Stored(name, recipe, count, newest, int(size), production.get((name, recipe)))
            for name, recipe, count, newest, size in rows
        ]

    def changed(self, since: Mark) -> tuple[Mark, list[str] | None]:
        """The merchants that the audit tells of since somebody read it.

        Args:
            since: up to where it was read.

        Returns:
            up to where it is read now, and their names; None if that cannot be told, as when a backup was put back.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        last = select(AUDIT.c.id, AUDIT.c.time).order_by(AUDIT.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            newest = connection.execute(last).one_or_none()
            mark = Mark() if newest is None else Mark(newest.id, newest.time)
            seen = connection.execute(select(AUDIT.c.time).where(AUDIT.c.id == since.id)).scalar()
            if since.at is None or seen != since.at:
                return mark, None
            names = connection.execute(select(AUDIT.c.merchant).where(AUDIT.c.id > since.id).distinct()).scalars()
            return mark, sorted(names)

    def audit_page(
        self,
        merchant: str | None = None,
        *,
        recipe: str = "",
        action: str = "",
        skip: int = 0,
        most: int = 50,
        since_erased: bool = False,
    ) -> tuple[int, list[AuditEntry]]:
        """A part of the audit, the newest first.

        Args:
            merchant: whose; None for all.
            recipe: of the merchant; empty for any.
            action: of the entries; empty for any.
            skip: entries that come before the part.
            most: entries of the part.
            since_erased: leave out what was before the last erasure of the merchant, and that itself: the name may be
                another shop's by now.

        Returns:
            how many entries there are in all, and those of the part.

        Raises:
            UnknownReference: if `merchant` cannot be one's name.
            RegistryError: if the registry cannot be read.
        """
        name = None if merchant is None else validation.merchant(merchant)
        told = {"merchant": name, "recipe": recipe or None, "action": action or None}
        where = [AUDIT.c[column] == value for column, value in told.items() if value is not None]
        if since_erased and name is not None:
            erased = (AUDIT.c.merchant == name) & AUDIT.c.action.startswith("erase")
            last = select(func.coalesce(func.max(AUDIT.c.id), 0)).where(erased).scalar_subquery()
            where.append(AUDIT.c.id > last)
        part = select(AUDIT).where(*where).order_by(AUDIT.c.id.desc()).offset(max(0, skip)).limit(max(0, most))
        with self._database.reading() as connection:
            total = connection.execute(select(func.count()).select_from(AUDIT).where(*where)).scalar_one()
            return total, [queries.audit_entry(row) for row in connection.execute(part)]
