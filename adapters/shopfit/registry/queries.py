"""The registry's SQL: every statement on versions, files, aliases, releases and the audit, on a given connection.

Statements select merchant and recipe by equality only.
"""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from shopfit.adapter.bundle import Manifest
from shopfit.registry.reference import PRODUCTION, Reference
from shopfit.registry.schema import (
    ADAPTERS,
    ALIASES,
    AUDIT,
    CATALOGS,
    FEEDBACK,
    FILES,
    KEYS,
    LIMITS,
    RELEASES,
    REVISION,
    USAGE,
    VERSIONS,
)
from shopfit.registry.serving import Release, ReleaseKind
from shopfit.registry.version import AuditEntry, Identity, Revision, Status, Version

_KEYS = 200  # values a statement: databases limit its parameters
_MARK = select(REVISION.c.mark)
_BLOBS = (FILES.c.sha256, CATALOGS.c.digest)
T = TypeVar("T")


class File(NamedTuple):
    """One file of a version: its path inside the bundle, the SHA-256 of its content, and its bytes."""

    path: str
    sha256: str
    size: int


def next_number(connection: Connection, merchant: str, recipe: str) -> int:
    """The next version number; other writers to this adapter wait for the transaction; a rollback frees it."""
    statement: Any = (
        upsert(connection, ADAPTERS)
        .values(merchant=merchant, recipe=recipe, last_number=1)
        .on_conflict_do_update(index_elements=["merchant", "recipe"], set_={"last_number": ADAPTERS.c.last_number + 1})
        .returning(ADAPTERS.c.last_number)
    )
    number: int = connection.execute(statement).scalar_one()
    return number


def lock(connection: Connection, merchant: str, recipe: str) -> None:
    """Lock this adapter for other writers until the transaction ends."""
    connection.execute(select(ADAPTERS.c.last_number).where(*_of(ADAPTERS, merchant, recipe)).with_for_update())


def last_number(connection: Connection, merchant: str, recipe: str) -> int:
    """The highest number ever given to a version, removed ones included; 0 if there was none."""
    return connection.execute(select(ADAPTERS.c.last_number).where(*_of(ADAPTERS, merchant, recipe))).scalar() or 0


def add_version(
    connection: Connection,
    number: int,
    manifest: Manifest,
    digest: str,
    files: Iterable[File],
    refused: str | None,
    summary: Mapping[str, Any] | None,
) -> None:
    """Insert the rows of a new version; `refused` is why it may not go into production, or None."""
    files = list(files)
    key = {"merchant": manifest.merchant, "recipe": manifest.recipe, "number": number}
    status: Status = "ready" if refused is None else "refused"
    connection.execute(
        insert(VERSIONS).values(
            **key,
            digest=digest,
            status=status,
            reason=refused or "",
            created=datetime.now(UTC),
            base_name=manifest.base.name,
            base_fingerprint=manifest.base.fingerprint,
            method=manifest.method,
            rank=manifest.rank,
            size=sum(file.size for file in files),
            metrics=manifest.metrics,
            summary=None if summary is None else dict(summary),
        )
    )
    connection.execute(insert(FILES), [key | file._asdict() for file in files])


def find(connection: Connection, reference: Reference) -> Version | None:
    """The version that `reference` names."""
    named = aliases(connection, reference.merchant, reference.recipe)
    number = reference.number if reference.alias is None else named.get(reference.alias)
    where = [*_of(VERSIONS, reference.merchant, reference.recipe), VERSIONS.c.number == number]
    row = connection.execute(select(VERSIONS).where(*where)).one_or_none()
    return None if row is None else _version(row, [name for name, of in named.items() if of == number])


def identities(connection: Connection, references: Iterable[Reference]) -> dict[Reference, Identity]:
    """The number and digest that each reference names now, in one snapshot; unknown ones are left out."""
    named: dict[tuple[str, str, str | int], Identity] = {}
    wanted = list(references)
    same = [VERSIONS.c[column] == ALIASES.c[column] for column in ("merchant", "recipe", "number")]
    identity = (VERSIONS.c.number, VERSIONS.c.digest)
    for table, key in ((VERSIONS, VERSIONS.c.number), (ALIASES, ALIASES.c.alias)):
        keys = {(r.merchant, r.recipe, r.number if table is VERSIONS else r.alias) for r in wanted}
        columns = (table.c.merchant, table.c.recipe, key)
        for part in batched((one for one in keys if one[2] is not None), _KEYS):
            where = [tuple_(*columns).in_(part), *(same if table is ALIASES else ())]
            for merchant, recipe, name, number, digest in connection.execute(select(*columns, *identity).where(*where)):
                named[merchant, recipe, name] = Identity(number, digest)
    found = {r: named.get((r.merchant, r.recipe, r.alias or r.number or 0)) for r in wanted}
    return {reference: identity for reference, identity in found.items() if identity is not None}


def find_all(connection: Connection, merchant: str | None = None, recipe: str | None = None) -> list[Version]:
    """Every version of a merchant, a recipe, or both, by name and number."""
    return _versions(connection, _of(VERSIONS, merchant, recipe))


def of_bases(connection: Connection, most: int) -> list[Version]:
    """Versions in production, at most `most` of each base, by name; of their aliases that one alone is told."""
    named = [VERSIONS.c[column] == ALIASES.c[column] for column in ("merchant", "recipe", "number")]
    order = (VERSIONS.c.merchant, VERSIONS.c.recipe)
    place = func.row_number().over(partition_by=VERSIONS.c.base_fingerprint, order_by=order).label("place")
    placed = select(VERSIONS, place).where(*named, ALIASES.c.alias == PRODUCTION).subquery()
    columns = [placed.c[column.name] for column in VERSIONS.c]
    rows = connection.execute(select(*columns).where(placed.c.place <= most).order_by(*columns[:2]))
    return [_version(row, [PRODUCTION]) for row in rows]


def files(connection: Connection, version: Version) -> list[File]:
    """The files of `version`, by path; none if its number names other weights by now."""
    statement = select(FILES.c.path, FILES.c.sha256, FILES.c.size).select_from(FILES.join(VERSIONS))
    statement = statement.where(*_is(FILES, version), VERSIONS.c.digest == version.digest)
    return sorted(File(*row) for row in connection.execute(statement))


def used_blobs(connection: Connection) -> set[str]:
    """Digests of the files of all versions, and of all catalogs."""
    return {one for column in _BLOBS for one in connection.execute(select(column).distinct()).scalars()}


def used_of(connection: Connection, digests: Iterable[str], but: str | None) -> set[str]:
    """Those of `digests` that versions or catalogs have; what the merchant `but` has does not count."""
    asked = list(digests)
    used: set[str] = set()
    for column in _BLOBS:
        where = [column.in_(asked), *([column.table.c.merchant != but] if but is not None else [])]
        used |= set(connection.execute(select(column).where(*where).distinct()).scalars())
    return used


def digests(connection: Connection) -> set[str]:
    """The digest of every version."""
    return set(connection.execute(select(VERSIONS.c.digest).distinct()).scalars())


def count(connection: Connection, table: Table, merchant: str) -> int:
    """How many rows of a table are of a merchant."""
    return connection.execute(select(func.count()).where(table.c.merchant == merchant)).scalar_one()


def remove_merchant(connection: Connection, merchant: str) -> None:
    """Delete every row of a merchant. Its counters stay, and so does its audit."""
    for table in (RELEASES, ALIASES, FILES, VERSIONS, KEYS, CATALOGS, LIMITS, USAGE, FEEDBACK):
        connection.execute(delete(table).where(*_of(table, merchant, None)))


def releases(connection: Connection, merchant: str | None, recipe: str | None = None) -> list[Release]:
    """The releases of all, of a merchant, or of an adapter; by name and kind."""
    same = [VERSIONS.c[column] == RELEASES.c[column] for column in ("merchant", "recipe", "number")]
    columns = [
        *(RELEASES.c[name] for name in ("merchant", "recipe", "kind", "number")),
        VERSIONS.c.digest,
        RELEASES.c.share,
    ]
    rows = connection.execute(select(*columns).where(*same, *_of(RELEASES, merchant, recipe)))
    return sorted((Release(*row) for row in rows), key=lambda release: (release.merchant, release.recipe, release.kind))


def put_release(
    connection: Connection, merchant: str, recipe: str, kind: ReleaseKind, number: int, share: float
) -> None:
    """Give a version a part of the traffic in place of the version that had it; call `lock` before."""
    values = {"number": number, "share": share}
    statement = upsert(connection, RELEASES).values(merchant=merchant, recipe=recipe, kind=kind, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["merchant", "recipe", "kind"], set_=values))


def end_release(connection: Connection, release: Release, actor: str, why: str = "") -> None:
    """Delete a release, and tell the audit; call `lock` before."""
    where = [*_of(RELEASES, release.merchant, release.recipe), RELEASES.c.kind == release.kind]
    connection.execute(delete(RELEASES).where(*where))
    record(connection, actor, "release-end", release.merchant, release.recipe, release.number, f"{release.kind}{why}")


def remove_version(connection: Connection, version: Version) -> None:
    """Delete its rows. The database refuses while an alias names it."""
    connection.execute(delete(FILES).where(*_is(FILES, version)))
    connection.execute(delete(VERSIONS).where(*_is(VERSIONS, version)))


def aliases(connection: Connection, merchant: str, recipe: str) -> dict[str, int]:
    """Every alias and the number it names."""
    statement = select(ALIASES.c.alias, ALIASES.c.number).where(*_of(ALIASES, merchant, recipe))
    return {row.alias: row.number for row in connection.execute(statement)}


def move_aliases(connection: Connection, merchant: str, recipe: str, moves: Mapping[str, int]) -> str:
    """Move each alias to another number; call `lock` or `next_number` before.

    Returns:
        what moved, for the audit: "@production: 6 -> 7, @previous: 5 -> 6".
    """
    before = aliases(connection, merchant, recipe)
    for alias, number in moves.items():
        if alias in before:
            where = [*_of(ALIASES, merchant, recipe), ALIASES.c.alias == alias]
            connection.execute(update(ALIASES).where(*where).values(number=number))
        else:
            connection.execute(insert(ALIASES).values(merchant=merchant, recipe=recipe, alias=alias, number=number))
    return ", ".join(f"@{alias}: {before.get(alias, 'none')} -> {number}" for alias, number in moves.items())


def remove_alias(connection: Connection, merchant: str, recipe: str, alias: str) -> str:
    """Delete an alias; call `lock` before.

    Returns:
        what was removed, for the audit: "@candidate: 4 -> none".
    """
    number = aliases(connection, merchant, recipe)[alias]
    connection.execute(delete(ALIASES).where(*_of(ALIASES, merchant, recipe), ALIASES.c.alias == alias))
    return f"@{alias}: {number} -> none"


def record(
    connection: Connection, actor: str, action: str, merchant: str, recipe: str, number: int, detail: str
) -> None:
    """Add an entry to the audit; `recipe` is empty and `number` 0 if it is about a merchant as a whole.

    The registry's revision changes with it. Call this after the rows of the change are locked.
    """
    connection.execute(
        insert(AUDIT).values(
            time=datetime.now(UTC),
            actor=actor,
            action=action,
            merchant=merchant,
            recipe=recipe,
            number=number,
            detail=detail,
        )
    )
    touch(connection)


def revision(connection: Connection) -> Revision:
    """The mark that each change replaces."""
    return Revision(connection.execute(_MARK).scalar_one())


def touch(connection: Connection) -> None:
    """Replace the mark; other writers that do so wait for the transaction. So every other lock is taken before."""
    connection.execute(update(REVISION).values(mark=secrets.token_hex(16)))


def identity(connection: Connection) -> str | None:
    """The id of a registry, its copies and backups: that of its first audit entry; None if there is none."""
    first = connection.execute(select(AUDIT).order_by(AUDIT.c.id).limit(1)).first()
    if first is None:
        return None
    told = f"{first.time.isoformat()} {first.actor} {first.merchant}/{first.recipe}@{first.number} {first.detail}"
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def audit(connection: Connection, merchant: str | None) -> list[AuditEntry]:
    """The audit of one merchant, or of all, oldest first."""
    statement = select(AUDIT).where(*_of(AUDIT, merchant, None)).order_by(AUDIT.c.id)
    return [audit_entry(row) for row in connection.execute(statement)]


def audit_entry(row: Row[Any]) -> AuditEntry:
    """An entry of the audit from its row."""
    reference = f"{row.merchant}/{row.recipe}@{row.number}" if row.recipe else row.merchant
    return AuditEntry(row.time, row.actor, row.action, reference, row.detail)


def _versions(connection: Connection, where: list[Any]) -> list[Version]:
    rows = connection.execute(select(VERSIONS).where(*where)).all()
    named: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    join = [VERSIONS.c[column] == ALIASES.c[column] for column in ("merchant", "recipe", "number")]
    columns = (ALIASES.c.merchant, ALIASES.c.recipe, ALIASES.c.number, ALIASES.c.alias)
    for merchant, recipe, number, alias in connection.execute(select(*columns).where(*join, *where)):
        named[merchant, recipe, number].append(alias)
    versions = [_version(row, named[row.merchant, row.recipe, row.number]) for row in rows]
    return sorted(versions, key=lambda version: (version.merchant, version.recipe, version.number))


def _version(row: Row[Any], named: list[str]) -> Version:
    return Version(**row._asdict(), aliases=tuple(sorted(named)))


def _of(table: Table, merchant: str | None, recipe: str | None) -> list[Any]:
    wanted = {"merchant": merchant, "recipe": recipe}
    return [table.c[column] == value for column, value in wanted.items() if value is not None]


def _is(table: Table, version: Version) -> list[Any]:
    return [*_of(table, version.merchant, version.recipe), table.c.number == version.number]


def upsert(connection: Connection, table: Table) -> Any:
    """An insert that can say what is done with a row that is there: both databases have it, each in its own words."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def batched(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` values, in order."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part
