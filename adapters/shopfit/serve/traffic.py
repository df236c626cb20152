"""What each adapter was asked lately, for people: counts since this gateway started, and how long answers took."""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from shopfit.serve.request_record import RequestRecord

_MOST = 50_000  # adapters; those not asked for the longest go first
_KEPT = 200  # answers of each, for its times
_OURS = 500


@dataclass(slots=True)
class AdapterTraffic:
    """Requests of one adapter.

    Args:
        requests: that are over.
        errors: of them answered with a status of 500 or more.
        tokens: read and written.
        seconds: of the last ones.
        versions: requests by the version that answered.
    """

    requests: int = 0
    errors: int = 0
    tokens: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    versions: dict[str, int] = field(default_factory=dict)

    @property
    def p95(self) -> float | None:
        """Seconds that 95% of the last answers took at most; None without any."""
        ordered = sorted(self.seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else None


class Traffic:
    """Counts of this gateway. For the event loop."""

    def __init__(self) -> None:
        self._adapters: OrderedDict[str, AdapterTraffic] = OrderedDict()

    def answered(self, record: RequestRecord, status: int, seconds: float) -> None:
        """A request is over; one that found no adapter is not counted."""
        if not record.adapter:
            return
        found = self._adapters.get(record.adapter)
        if found is None:
            found = self._adapters[record.adapter] = AdapterTraffic()
            if len(self._adapters) > _MOST:
                self._adapters.popitem(last=False)
        else:
            self._adapters.move_to_end(record.adapter)
        found.requests += 1
        found.errors += status >= _OURS
        found.tokens += record.read + record.written
        found.seconds.append(seconds)
        found.versions[record.version] = found.versions.get(record.version, 0) + 1

    def of(self, adapter: str) -> AdapterTraffic:
        """Of one adapter; nothing, if it was not asked."""
        return self._adapters.get(adapter) or AdapterTraffic()

    def all(self) -> dict[str, AdapterTraffic]:
        """Of every adapter that was asked; those asked last come last."""
        return dict(self._adapters)
