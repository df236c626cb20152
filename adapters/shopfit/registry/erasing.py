"""Erases a merchant: all of its rows and blobs in the registry, and its files on this machine.

One transaction removes the merchant's rows and writes to the audit what to delete; then that is deleted; then the
receipt is written. So if a process dies at any point, erasing again finds the unfinished erasure and completes it. The
version counters stay, so that old references never name other weights if the merchant's name is used again.
"""

import json
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, func, select

from shopfit.adapter.bundle import MANIFEST
from shopfit.errors import BundleError, Problem, RegistryError, UnknownReference
from shopfit.recipe.names import HOUSE
from shopfit.registry import fetching, queries
from shopfit.registry.blobs import BlobStore
from shopfit.registry.database import Database
from shopfit.registry.queries import batched
from shopfit.registry.schema import AUDIT, CATALOGS, FEEDBACK, KEYS, LIMITS, RELEASES, USAGE
from shopfit.registry.temp_folders import Space, remove, sweep
from shopfit.registry.version import AuditEntry
from shopfit.settings import (
    Settings,
    checkpoints,
    curve_pictures,
    fleets,
    indexes,
    merchant_folder,
    packed_files,
    rewrites,
    runs,
    studies,
    unsorted_rewrites,
    uploads,
)

_BEGUN, _DONE = "erase-begun", "erase"
_LEAVINGS = "leavings"
_OF_THE_CONSOLE = ("runs", "data")  # told where there was something
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b", re.ASCII)
_NAMES = 500  # of one statement
_BLOBS_A_LOCK = 64  # blobs removed in one transaction, for which publishers wait
_ROWS = {"releases": RELEASES, "catalogs": CATALOGS, "limits": LIMITS, "usage": USAGE, "feedback": FEEDBACK}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What erasing a merchant removed, or would remove. It contains no data of the merchant.

    Args:
        merchant: its name.
        time: of the end of the erasure, with time zone.
        actor: who erased it.
        versions: the removed versions: reference -> the bundle's digest.
        aliases: the removed aliases, such as `acme/review-sentiment@production`.
        blobs: removed files of those versions, and of the catalog.
        shared_blobs: files of them that stay, since others have the same content.
        orphans: removed blobs of no version, some of which may have been the merchant's; and unfinished writes.
        local: removed files on this machine, by place: cache, checkpoints, indexes, studies, fleets, curves, rewrites,
            runs, data (what was brought through the console), leavings.
        starters: starters that were trained on its examples: to be fitted again without them, then removed.
        unreadable: starters whose files are damaged, so that this cannot be told.
        ends: ids in the audit of the erasures that this receipt completes.
        keys: how many API keys were removed; 0 in receipts from before there were any.
        rows: what else was removed, and how much of it: releases, catalogs, limits, usage (a row a day) and feedback.
    """

    merchant: str
    time: datetime
    actor: str
    versions: dict[str, str] = field(hash=False)
    aliases: tuple[str, ...]
    blobs: Space
    shared_blobs: int
    orphans: Space
    local: dict[str, Space] = field(hash=False)
    starters: tuple[str, ...]
    unreadable: tuple[str, ...]
    ends: tuple[str, ...]
    keys: int = 0
    rows: dict[str, int] = field(default_factory=dict, hash=False)

    def to_json(self) -> str:
        """As JSON, for the audit."""
        return json.dumps(asdict(self) | {"time": self.time.isoformat()})

    @classmethod
    def from_json(cls, text: str) -> "Receipt":
        """Read a receipt from the audit's JSON."""
        found: dict[str, Any] = json.loads(text)
        lists = {name: tuple(found[name]) for name in ("aliases", "starters", "unreadable", "ends")}
        local = {place: Space(**space) for place, space in found["local"].items()}
        spaces = {name: Space(**found[name]) for name in ("blobs", "orphans")}
        return cls(**found | lists | spaces | {"local": local, "time": datetime.fromisoformat(found["time"])})


@dataclass(slots=True)
class _Work:
    """What an erasure has to delete, as it is recorded in the audit."""

    versions: dict[str, str] = field(default_factory=dict)
    aliases: list[str] = field(default_factory=list)
    blobs: dict[str, int] = field(default_factory=dict)  # bytes by digest
    ids: list[str] = field(default_factory=list)
    keys: int = 0
    rows: dict[str, int] = field(default_factory=dict)

    def add(self, other: "_Work") -> None:
        self.versions |= other.versions
        self.aliases += [alias for alias in other.aliases if alias not in self.aliases]
        self.blobs |= other.blobs
        self.ids += other.ids
        self.keys += other.keys
        for what, count in other.rows.items():
            self.rows[what] = self.rows.get(what, 0) + count


def took(audit: Iterable[AuditEntry], name: str) -> bool:
    """Whether an erasure removed a version such as `acme/reviews@7`; numbers are never reused."""
    return any(name in json.loads(entry.detail)["versions"] for entry in audit if entry.action == _BEGUN)


def erase(
    database: Database, blobs: BlobStore, settings: Settings, merchant: str, actor: str, *, dry_run: bool
) -> Receipt:
    """Erase a merchant; see `Registry.erase`."""
    if merchant == HOUSE:
        raise RegistryError(
            f"{HOUSE} is no merchant: its versions are the starters",
            next_step="remove starters one by one: `shopfit registry unalias`, then `shopfit registry rm`",
        )
    with database.reading() if dry_run else database.writing(alone=True) as connection:
        blobs.check_sole(queries.identity(connection))
        audit = queries.audit(connection, merchant)
        removed = {digest for entry in audit if entry.action == "publish" for digest in _DIGEST.findall(entry.detail)}
        earlier, work = _unfinished(audit)
        if found := _found(connection, merchant):
            work.add(found)
            if not dry_run:
                queries.remove_merchant(connection, merchant)
                queries.record(connection, actor, _BEGUN, merchant, "", 0, json.dumps(asdict(found)))
    shared = _remove_blobs(database, blobs, work, merchant if dry_run else None, dry_run)
    with (
        database.reading() if dry_run else database.writing(alone=True) as connection
    ):  # of removed versions, of trainings
        orphans = blobs.remove_stale(queries.used_blobs(connection), datetime.now(UTC), dry_run=dry_run)
    digests = {*work.versions.values()}.union(*(one.versions.values() for one in earlier), removed)
    starters, unreadable = _learned_from(database, blobs, merchant)
    receipt = Receipt(
        merchant=merchant,
        time=datetime.now(UTC),
        actor=actor,
        versions=work.versions,
        aliases=tuple(work.aliases),
        blobs=Space(len(work.blobs) - len(shared), sum(size for one, size in work.blobs.items() if one not in shared)),
        shared_blobs=len(shared),
        orphans=orphans,
        local=_remove_local(settings, merchant, digests, dry_run),
        starters=starters,
        unreadable=unreadable,
        ends=tuple(work.ids),
        keys=work.keys,
        rows=work.rows,
    )
    own = [space for place, space in receipt.local.items() if place != _LEAVINGS]
    if not (receipt.versions or receipt.keys or receipt.rows or any(space.count for space in own)):
        if not earlier:
            raise UnknownReference(
                f"there is nothing of a merchant {merchant!r}, neither in the registry nor in {settings.home}",
                next_step="run `shopfit registry ls` to see the names there are",
            )
        return replace(earlier[-1], starters=starters, unreadable=unreadable)
    if not dry_run:
        with database.writing() as connection:
            queries.record(connection, actor, _DONE, merchant, "", 0, receipt.to_json())
    return receipt


def last_of(connection: Connection, merchants: Iterable[str]) -> dict[str, int]:
    """The id in the audit of each merchant's last erasure, begun or done; 0 where there is none."""
    found = dict.fromkeys(merchants, 0)
    for names in batched(found, _NAMES):
        erased = AUDIT.c.merchant.in_(names) & AUDIT.c.action.in_((_BEGUN, _DONE))
        last = select(AUDIT.c.merchant, func.max(AUDIT.c.id)).where(erased).group_by(AUDIT.c.merchant)
        for name, number in connection.execute(last):
            found[name] = number
    return found


def check_there(connection: Connection, before: Mapping[str, int]) -> None:
    """Refuse what was learned from a merchant that was erased meanwhile.

    Args:
        connection: of the transaction that would register it.
        before: what `last_of` gave when the data was read.

    Raises:
        RegistryError: naming the merchants.
    """
    now = last_of(connection, before)
    if gone := sorted(name for name, number in before.items() if now[name] != number):
        raise RegistryError(
            f"{', '.join(gone)} was erased while this was trained on its data: nothing is registered",
            next_step="erase it again if this machine still has files of it; train anew if it is to be there",
        )


def receipts(audit: list[AuditEntry]) -> list[Receipt]:
    """The receipts in an audit, in its order."""
    return [Receipt.from_json(entry.detail) for entry in audit if entry.action == _DONE]


def _unfinished(audit: list[AuditEntry]) -> tuple[list[Receipt], _Work]:
    """The receipts in an audit, and the work of erasures without a receipt."""
    done = receipts(audit)
    ended = {one for receipt in done for one in receipt.ends}
    work = _Work()
    for entry in audit:
        if entry.action == _BEGUN and not ended.issuperset((begun := _Work(**json.loads(entry.detail))).ids):
            work.add(begun)
    return done, work


def _found(connection: Connection, merchant: str) -> _Work | None:
    versions = queries.find_all(connection, merchant)
    found_keys = queries.count(connection, KEYS, merchant)
    counts = {what: queries.count(connection, table, merchant) for what, table in _ROWS.items()}
    rows = {what: count for what, count in counts.items() if count}
    if not versions and not found_keys and not rows:
        return None
    catalog = connection.execute(
        select(CATALOGS.c.digest, CATALOGS.c.size).where(CATALOGS.c.merchant == merchant)
    ).all()
    return _Work(
        versions={version.name: version.digest for version in versions},
        aliases=[f"{v.merchant}/{v.recipe}@{alias}" for v in versions for alias in v.aliases],
        blobs={
            **{file.sha256: file.size for version in versions for file in queries.files(connection, version)},
            **{row.digest: row.size for row in catalog},
        },
        ids=[secrets.token_hex(8)],
        keys=found_keys,
        rows=rows,
    )


def _remove_blobs(database: Database, blobs: BlobStore, work: _Work, but: str | None, dry_run: bool) -> set[str]:
    """Remove an erasure's blobs that no version uses, not counting versions of the merchant `but`.

    Returns:
        the digests that stay.
    """
    shared: set[str] = set()
    for part in batched(sorted(work.blobs), _BLOBS_A_LOCK):
        with database.reading() if dry_run else database.writing(alone=True) as connection:
            named = queries.used_of(connection, part, but)
            shared |= named
            if not dry_run:
                blobs.remove(set(part) - named)
    return shared


def _learned_from(database: Database, blobs: BlobStore, merchant: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The starters that were trained on a merchant's examples, and those that are unreadable."""
    with database.reading() as connection:
        kept = [(version, queries.files(connection, version)) for version in queries.find_all(connection, HOUSE)]
    learned, unreadable = [], []
    for version, files in kept:
        try:
            manifest = fetching.read(version, files, lambda _: {MANIFEST}, blobs).manifest
        except BundleError:
            unreadable.append(version.name)
            continue
        if merchant in manifest.donors:
            learned.append(version.name)
    return tuple(learned), tuple(unreadable)


def _remove_local(settings: Settings, merchant: str, digests: set[str], dry_run: bool) -> dict[str, Space]:
    """Remove a merchant's files on this machine.

    Raises:
        RegistryError: if one cannot be removed.
    """
    home = settings.home
    places = {
        "cache": [
            *(settings.cache / digest for digest in sorted(digests)),
            *packed_files(settings.cache, digests),
        ],
        "checkpoints": [checkpoints(home, merchant)],
        "indexes": [indexes(home, merchant)],
        "studies": [studies(home, merchant)],
        "fleets": [fleets(home, merchant)],
        "curves": curve_pictures(home, merchant),
        "rewrites": [rewrites(home, merchant), *unsorted_rewrites(home)],
        "runs": [runs(home, merchant)],
        "data": [merchant_folder(home, merchant), uploads(home, merchant)],
    }
    removed = {place: sum((remove(one, dry_run=dry_run) for one in paths), Space()) for place, paths in places.items()}
    removed = {place: space for place, space in removed.items() if space.count or place not in _OF_THE_CONSOLE}
    left = [path for paths in places.values() for path in paths if not dry_run and os.path.lexists(path)]
    if left:
        raise RegistryError(
            f"not everything of {merchant} could be removed",
            problems=[Problem(str(path), "is still there") for path in left],
            next_step="let this user write there, and erase the merchant again: it goes on from here",
        )
    return removed | {_LEAVINGS: sweep(home, dry_run=dry_run)}
