"""What each adapter was asked lately, for people: counts since this gateway started, and how long answers took."""

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from operator import attrgetter
from typing import NamedTuple

from shopfit.serve.request_record import RequestRecord

_MOST = 50_000  # adapters; those not asked for the longest go first
_KEPT = 200  # answers of each, for its times
_FAILURES = 20  # of each merchant
_OURS, _TOO_MANY = 500, 429


class Failure(NamedTuple):
    """A request that was not answered.

    Args:
        at: when, with time zone.
        merchant: that it counts for; empty for the platform.
        adapter: `merchant/recipe`; empty if none was found before.
        version: that was to answer; empty if none was found before.
        status: of HTTP.
        kind: the class of the error; empty if it was not told.
    """

    at: datetime
    merchant: str
    adapter: str
    version: str
    status: int
    kind: str


@dataclass(slots=True)
class AdapterTraffic:
    """Requests of one adapter.

    Args:
        requests: that are over.
        errors: of them answered with a status of 500 or more.
        tokens: read and written.
        seconds: of the last ones, but of those that waited for an engine's start.
        versions: requests by the version that answered.
        shadows: by version, how its answers in the shadow compare with production's: "same", "different", "failed", or
            "dropped" if it was not asked.
    """

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    versions: dict[str, int] = field(default_factory=dict)
    shadows: dict[str, Counter[str]] = field(default_factory=dict)

    @property
    def p95(self) -> float | None:
        """Seconds that 95% of the last answers took at most; None without any."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


class Traffic:
    """Counts of this gateway. For the event loop."""

    def __init__(self) -> None:
        self._adapters: OrderedDict[str, AdapterTraffic] = OrderedDict()
        self._failures: OrderedDict[str, deque[Failure]] = OrderedDict()
        self._nothing = AdapterTraffic()

    def answered(self, record: RequestRecord, status: int, seconds: float) -> None:
        """A request is over; one that found no adapter is not counted."""
        if record.key and (status >= _OURS or status == _TOO_MANY):
            self._fail(record, status)
        if not record.adapter:
            return
        found = self._found(record.adapter)
        found.requests += 1
        found.errors += status >= _OURS
        found.tokens += record.read + record.written
        if not record.cold:  # a start says nothing of how fast the adapter answers
            found.seconds.append(seconds)
        found.versions[record.version] = found.versions.get(record.version, 0) + 1

    def shadowed(self, adapter: str, version: str, outcome: str) -> None:
        """A version in the shadow was asked what an adapter's production answered, or had to be left out."""
        self._found(adapter).shadows.setdefault(version, Counter())[outcome] += 1

    def failures(self, merchant: str | None) -> list[Failure]:
        """Of all requests that failed or were refused by a limit, the last 20 of each merchant; the newest first.

        Args:
            merchant: whose; None for all.
        """
        found = self._failures.values() if merchant is None else [self._failures.get(merchant, deque())]
        return sorted(chain.from_iterable(found), key=attrgetter("at"), reverse=True)

    def forget(self, merchant: str) -> None:
        """Drop what was counted of a merchant that was erased."""
        self._failures.pop(merchant, None)
        for adapter in [name for name in self._adapters if name.startswith(f"{merchant}/")]:
            del self._adapters[adapter]

    def of(self, adapter: str) -> AdapterTraffic:
        """Of one adapter; nothing, if it was not asked."""
        return self._adapters.get(adapter, self._nothing)

    def all(self) -> dict[str, AdapterTraffic]:
        """Of every adapter that was asked; those asked last come last."""
        return dict(self._adapters)

    def _found(self, adapter: str) -> AdapterTraffic:
        found = self._adapters.get(adapter)
        if found is None:
            found = self._adapters[adapter] = AdapterTraffic()
            if len(self._adapters) > _MOST:
                self._adapters.popitem(last=False)
        else:
            self._adapters.move_to_end(adapter)
        return found

    def _fail(self, record: RequestRecord, status: int) -> None:
        merchant = record.adapter.partition("/")[0] or record.merchant
        kept = self._failures.setdefault(merchant, deque(maxlen=_FAILURES))
        kept.append(Failure(datetime.now(UTC), merchant, record.adapter, record.version, status, record.kind))
        self._failures.move_to_end(merchant)
        if len(self._failures) > _MOST:
            self._failures.popitem(last=False)
