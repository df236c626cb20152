"""Tokens that merchants used today: counted here, and a second later in the registry, where all gateways add up."""

import asyncio
import logging
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta

from shopfit.errors import ShopfitError
from shopfit.registry import Registry
from shopfit.serve.registry_threads import RegistryThreads

logger = logging.getLogger(__name__)

_SECOND = 1.0  # after which what is known is asked for again, and what was counted is written


class TokenBudgets:
    """Counts tokens by merchant and day of UTC. For the event loop.

    Nothing is read or written while nobody asks. While the registry cannot be reached, what was counted is kept.

    Args:
        registry: that holds the usage of all gateways.
        threads: that ask it.
    """

    def __init__(self, registry: Registry, threads: RegistryThreads) -> None:
        self._registry = registry
        self._threads = threads
        self._counted: dict[date, Counter[str]] = {}  # not in the registry yet
        self._known: dict[str, int] = {}  # of `_day`, as the registry had it at `_asked`
        self._written: Counter[str] = Counter()  # of `_day`, since then
        self._day = _today()
        self._asked = float("-inf")  # time.monotonic()
        self._exchanging: asyncio.Task[None] | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, merchant: str, tokens: int) -> None:
        """Count tokens of a merchant; they are in the registry a second later."""
        if tokens <= 0:
            return
        self._counted.setdefault(_today(), Counter())[merchant] += tokens
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_soon())

    async def used(self, merchant: str) -> int:
        """Tokens that a merchant used today, at all gateways a second ago, and here until now."""
        today = _today()
        if self._day != today or time.monotonic() - self._asked >= _SECOND:
            await asyncio.shield(self._exchange())  # a request that ends meanwhile does not end it
        return self._known.get(merchant, 0) + self._written[merchant] + self._counted.get(today, Counter())[merchant]

    async def close(self) -> None:
        """Write what is not in the registry yet."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
        if self._exchanging is not None:
            await self._exchanging
        if self._counted:
            await self._exchange()

    async def _write_soon(self) -> None:
        while self._counted:
            await asyncio.sleep(_SECOND)
            await asyncio.shield(self._exchange())

    def _exchange(self) -> "asyncio.Task[None]":
        """Write what was counted, and read what all used; those who need it meanwhile get the same."""
        if self._exchanging is None or self._exchanging.done():
            self._exchanging = asyncio.create_task(self._write_and_read())
        return self._exchanging

    async def _write_and_read(self) -> None:
        day = _today()
        try:
            for when in list(self._counted):
                counts = dict(self._counted[when])
                await self._threads.run(self._registry.add_usage, counts, when)
                self._forget(when, counts)
            known = await self._threads.run(self._registry.usage, day)
        except ShopfitError:
            logger.warning("tokens cannot be counted in the registry now; it is tried again", exc_info=True)
        else:
            self._known, self._day = known, day
            self._written.clear()
        self._asked = time.monotonic()

    def _forget(self, when: date, counts: dict[str, int]) -> None:
        """They are in the registry now."""
        self._counted[when] -= Counter(counts)
        if not self._counted[when]:
            del self._counted[when]
        if when == self._day:
            self._written.update(counts)


def seconds_of_today() -> float:
    """Seconds until the day of UTC is over."""
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return (midnight - now).total_seconds()


def _today() -> date:
    return datetime.now(UTC).date()
