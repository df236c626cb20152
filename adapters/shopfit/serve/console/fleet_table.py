"""The fleet as a table: an adapter a row, read from the registry once a change of it, and what needs attention."""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Literal, get_args

from shopfit.recipe.names import HOUSE
from shopfit.registry import Registry, Revision, Version
from shopfit.registry.overview import Mark
from shopfit.serve.traffic import AdapterTraffic, Traffic

Attention = Literal["erroring", "refused", "worse", "stale", "waiting"]
ATTENTION: tuple[Attention, ...] = get_args(Attention)
"""What is wrong, the worst first. erroring: it fails. refused: the gate refused the newest version, and nothing good
is in production. worse: a simple baseline is better. stale: it learned long ago. waiting: a candidate that somebody
must decide on."""

STALE = timedelta(days=90)
"""Age from which an adapter's data are old."""
_ERRORS = 0.02  # share of requests
_FEW = 200  # merchants that are read one by one
_BITS: dict[Attention, int] = {name: 1 << place for place, name in enumerate(ATTENTION)}
_WEAK = _BITS["erroring"] | _BITS["worse"] | _BITS["stale"]
_COMBINED = [tuple(name for name in ATTENTION if wrong & _BITS[name]) for wrong in range(1 << len(ATTENTION))]


@dataclass(frozen=True, slots=True)
class Adapter:
    """A row of the fleet, without what changes by the minute.

    Args:
        merchant: whose it is.
        recipe: what it does.
        newest: its newest version.
        production: the one that answers; None if none does.
        candidate: the one that awaits a decision; None without, or if it is in production.
        versions: how many there are.
        known: what is wrong with it by the registry alone, as bits in the order of `ATTENTION`.
    """

    merchant: str
    recipe: str
    newest: Version
    production: Version | None
    candidate: Version | None
    versions: int
    known: int

    @property
    def name(self) -> str:
        """`merchant/recipe`."""
        return f"{self.merchant}/{self.recipe}"

    @property
    def tried(self) -> Version | None:
        """A newer version than the one in production that the gate refused; None without."""
        return self.newest if self.production is not None and self.newest.status == "refused" else None

    @property
    def shown(self) -> Version:
        """The version that the row tells of."""
        return self.production or self.newest

    def attention(self, traffic: AdapterTraffic, now: datetime) -> tuple[Attention, ...]:
        """What is wrong with it, the worst first."""
        wrong = self.known
        if traffic.errors > _ERRORS * traffic.requests:
            wrong |= _BITS["erroring"]
        if now - self.shown.created > STALE:
            wrong |= _BITS["stale"]
        if self.production is not None and not wrong & _WEAK:
            wrong &= ~_BITS["refused"]
        return _COMBINED[wrong]


@dataclass(frozen=True, slots=True)
class Row:
    """An adapter and how it fares.

    Args:
        adapter: of the row.
        traffic: since this gateway started.
        attention: what is wrong with it.
    """

    adapter: Adapter
    traffic: AdapterTraffic
    attention: tuple[Attention, ...]


class FleetTable:
    """The fleet. Any thread may ask.

    Args:
        registry: that has the versions.
        traffic: of the gateway.
    """

    def __init__(self, registry: Registry, traffic: Traffic) -> None:
        self._registry, self._traffic = registry, traffic
        self._revision: Revision | None = None
        self._mark = Mark()
        self._merchants: dict[str, list[Adapter]] = {}
        self._known: list[Adapter] = []
        self._rows: dict[str, Row] = {}  # made anew only if they are others: many new ones keep the collector busy
        self._reading = threading.Lock()

    def adapters(self) -> list[Adapter]:
        """Every merchant's, by name.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        with self._reading:
            revision = self._registry.revision()  # before what it is about, or a change between would be missed
            if revision != self._revision:
                self._read()
                self._revision = revision
            return self._known

    def _read(self) -> None:
        """Read what has changed: some merchants, or everything."""
        mark, changed = self._registry.changed(self._mark)
        if not changed or len(changed) > _FEW:  # none, if somebody wrote into the database past the registry
            self._merchants = _by_merchant(self._registry.versions())
        else:
            for merchant in filter(None, changed):
                self._merchants |= _by_merchant(self._registry.versions(merchant)) or {merchant: []}
        self._mark = mark
        self._known = [adapter for merchant in sorted(self._merchants) for adapter in self._merchants[merchant]]
        self._rows = {}

    def rows(self, merchant: str | None, *, search: str = "", recipe: str = "", state: str = "") -> list[Row]:
        """Rows that are asked for, those that need attention first.

        Args:
            merchant: whose; None for all.
            search: part of a merchant's name.
            recipe: of the adapters; empty for any.
            state: one of `ATTENTION`, "good" for nothing wrong, or empty for any.

        Raises:
            RegistryError: if the registry cannot be read.
        """
        now, wanted = datetime.now(UTC), search.strip().lower()
        rows = []
        for adapter in self.adapters():
            if merchant not in (None, adapter.merchant) or wanted not in adapter.merchant:
                continue
            if recipe and adapter.recipe != recipe:
                continue
            traffic = self._traffic.of(adapter.name)
            attention = adapter.attention(traffic, now)
            if not state or state in attention or (state == "good" and not attention):
                rows.append(self._row(adapter, traffic, attention))
        return sorted(rows, key=lambda row: ATTENTION.index(row.attention[0]) if row.attention else len(ATTENTION))

    def _row(self, adapter: Adapter, traffic: AdapterTraffic, attention: tuple[Attention, ...]) -> Row:
        known = self._rows.get(adapter.name)
        if known and known.adapter is adapter and known.traffic is traffic and known.attention is attention:
            return known
        row = self._rows[adapter.name] = Row(adapter, traffic, attention)
        return row


def _by_merchant(versions: Iterable[Version]) -> dict[str, list[Adapter]]:
    grouped: dict[str, dict[str, list[Version]]] = {}
    for version in versions:
        if version.merchant != HOUSE:
            grouped.setdefault(version.merchant, {}).setdefault(version.recipe, []).append(version)
    return {merchant: [_adapter(found) for found in recipes.values()] for merchant, recipes in grouped.items()}


def _adapter(versions: list[Version]) -> Adapter:
    newest = max(versions, key=attrgetter("number"))
    named = {alias: version for version in versions for alias in version.aliases}
    production, candidate = named.get("production"), named.get("candidate")
    waits = candidate if candidate is not None and candidate is not production else None
    lead = ((production or newest).summary or {}).get("lead")
    known = _BITS["refused"] if newest.status == "refused" else 0
    known |= _BITS["worse"] if lead is not None and lead < 0 else 0
    known |= _BITS["waiting"] if waits is not None else 0
    return Adapter(newest.merchant, newest.recipe, newest, production, waits, len(versions), known)
