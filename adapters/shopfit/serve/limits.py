"""What merchants, and the platform, may ask in a time: requests a minute, requests at the same time, tokens a day."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from limits.aio.storage import SlidingWindowCounterSupport
from limits.errors import ConfigurationError
from limits.storage import storage_from_string

from shopfit.errors import LimitExceeded, ShopfitError
from shopfit.registry import UNLIMITED, Limits
from shopfit.registry.failures import masked
from shopfit.serve.budgets import TokenBudgets, seconds_of_today
from shopfit.serve.metrics import Metrics
from shopfit.serve.options import ServeOptions
from shopfit.serve.registry_state import RegistryState
from shopfit.serve.request_record import RequestRecord

logger = logging.getLogger(__name__)

PLATFORM = ""
"""Whose requests those with a key of the platform are; no merchant's name is empty."""

MOST_PAGES = 1200
"""Pages of the console, and parts of them, that one merchant or the platform may load in a minute."""

_MINUTE = 60
_PATIENCE = 1.0  # seconds that the store of rates may take
_PAUSE = 5.0  # seconds that rates go uncounted when it does not answer


class RequestRates:
    """Counts requests in a sliding minute, in this process or in a Redis. For the event loop.

    A merchant has two counters, of this minute and the last: the last one fades as the minute goes on.

    A Redis that does not answer limits nobody: it is logged, and tried again some seconds later.

    Args:
        address: `memory://`, `redis://…` or `rediss://…`.

    Raises:
        ShopfitError: if it is none of these, or the package for it is missing.
    """

    def __init__(self, address: str) -> None:
        self._paused_until = 0.0  # time.monotonic()
        self._address = masked(address)
        scheme = address.partition("://")[0]
        if scheme not in ("memory", "redis", "rediss"):
            raise ShopfitError(
                f"--limits is {masked(address)!r} (allowed: memory://, redis://host:6379, rediss://host:6379)",
                next_step="correct the option",
            )
        more: dict[str, Any] = {}
        if scheme != "memory":
            more = {"implementation": "redispy", "socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
        try:
            store = storage_from_string(f"async+{address}", **more)
        except (ConfigurationError, ValueError) as error:
            raise ShopfitError(
                f"--limits is {masked(address)!r}, and it cannot be used: {masked(str(error))}",
                next_step="correct the option, or install the package for it: pip install 'shopfit[serve]'",
            ) from error
        assert isinstance(store, SlidingWindowCounterSupport)
        self._store: Any = store

    async def check(self) -> None:
        """Make sure that the store answers.

        Raises:
            ShopfitError: if it does not.
        """
        if not await self._store.check():
            raise ShopfitError(
                f"--limits is {self._address!r}, and nothing answers there as a Redis does "
                "(allowed: memory://, redis://host:6379, rediss://host:6379)",
                next_step="start it, or correct its address, user or password; with memory:// each gateway counts for "
                "itself",
            )

    async def take(self, merchant: str, most: int) -> tuple[bool, int, float]:
        """Count a request of a merchant, if there is room for it.

        Args:
            merchant: that was found by key or by name, or `PLATFORM`.
            most: requests a minute, 0 or more. Another number holds at once: the requests before it count.

        Returns:
            whether there is room; how many more there is room for; seconds until there is room for one (more).
        """
        if time.monotonic() < self._paused_until:
            return True, most, 0.0
        key = f"shopfit/requests/{merchant}"
        try:
            async with asyncio.timeout(_PATIENCE):
                taken = await self._store.acquire_sliding_window_entry(key, most, _MINUTE)
                counts = WindowCounts(*await self._store.get_sliding_window(key, _MINUTE))
        except Exception:  # each store raises its own
            logger.warning("requests are not counted for %s s: the store does not answer", _PAUSE, exc_info=True)
            self._paused_until = time.monotonic() + _PAUSE
            return True, most, 0.0
        return taken, max(0, most - counts.now), counts.wait(most)


class WindowCounts(NamedTuple):
    """Requests of the last whole minute and of the one that runs, and the seconds until they count no more."""

    last: int
    last_ends: float
    running: int
    running_ends: float

    @property
    def now(self) -> int:
        """Requests that count."""
        return math.floor(self.last * self.last_ends / _MINUTE + self.running)

    def wait(self, most: int) -> float:
        """Seconds until one less counts than may, or if that is so, than does now; all grow old evenly."""
        below = min(most, self.now)
        if below <= 0:
            return _MINUTE if most <= 0 else 0.0
        if self.running < below:  # enough of the last minute grows old in this one
            return max(0.0, self.last_ends - (below - self.running) * _MINUTE / self.last)
        rest = max(0.0, self.running_ends - _MINUTE)  # until this minute is the last
        return rest + _MINUTE - below * _MINUTE / self.running


class MerchantLimits:
    """Admits requests by the limits of their merchants. For the event loop.

    A limit that is changed holds for the next request after the registry's state was read, whatever is cached of its
    key. Of each limit that a merchant has none of its own of, it has that of the options.

    Args:
        state: of the registry, with each merchant's limits.
        budgets: tokens that merchants used.
        metrics: that count refusals.
        options: of the gateway.

    Raises:
        ShopfitError: if the store of rates cannot be used.
    """

    def __init__(self, state: RegistryState, budgets: TokenBudgets, metrics: Metrics, options: ServeOptions) -> None:
        self._state = state
        self._budgets = budgets
        self._metrics = metrics
        self._rates = RequestRates(options.limits)
        self._under_way: Counter[str] = Counter()
        self._usual = Limits(options.requests_per_minute, options.concurrent, options.tokens_per_day)
        self._platform = Limits(options.platform_requests_per_minute)

    async def check(self) -> None:
        """Make sure that rates can be counted; raises as `RequestRates.check` does."""
        await self._rates.check()

    def of(self, merchant: str) -> Limits:
        """What a merchant may ask now: None where there is no limit."""
        if merchant == PLATFORM:
            return self._platform
        own, usual = self._state.limits.get(merchant), self._usual
        if own is None:
            return usual
        return Limits(
            _in_force(own.requests_per_minute, usual.requests_per_minute),
            _in_force(own.concurrent, usual.concurrent),
            _in_force(own.tokens_per_day, usual.tokens_per_day),
        )

    @asynccontextmanager
    async def admit(self, merchant: str, record: RequestRecord) -> AsyncIterator[None]:
        """A request of a merchant is under way, if the merchant may.

        Args:
            merchant: that was found by key or by name, never a text that a client sent; or `PLATFORM`.
            record: of the request; its headers say what is left.

        Raises:
            LimitExceeded: if it may not.
        """
        record.merchant = merchant
        limits = self.of(merchant)
        if limits.concurrent is not None and self._under_way[merchant] >= limits.concurrent:
            wait = 1.0 if limits.concurrent else _MINUTE
            raise self._refusal(merchant, "concurrent", "requests at the same time", limits.concurrent, wait)
        self._under_way[merchant] += 1
        try:
            if limits.requests_per_minute is not None:
                await self._check_rate(merchant, limits.requests_per_minute, record)
            yield
        finally:
            self._under_way[merchant] -= 1
            if not self._under_way[merchant]:
                del self._under_way[merchant]

    async def check_page(self, merchant: str, record: RequestRecord) -> None:
        """Make sure that a merchant, or the platform, looks at no more pages of the console than people do.

        They have a count of their own: an open page uses up nothing of what the shop may ask.

        Raises:
            LimitExceeded: if there were too many.
        """
        record.merchant = merchant
        taken, _, wait = await self._rates.take(f"console/{merchant}", MOST_PAGES)
        if not taken:
            raise self._refusal(merchant, "requests", "pages a minute", MOST_PAGES, wait)

    async def _check_rate(self, merchant: str, most: int, record: RequestRecord) -> None:
        taken, left, wait = await self._rates.take(merchant, most)
        record.headers.update(_headers("requests", most, left, wait))
        if not taken:
            raise self._refusal(merchant, "requests", "requests a minute", most, wait)

    async def check_tokens(self, merchant: str, record: RequestRecord) -> None:
        """Make sure that a merchant has tokens left: answers cost some, and nothing else does.

        Raises:
            LimitExceeded: if it has none.
        """
        if (most := self.of(merchant).tokens_per_day) is None:
            return
        used, wait = await self._budgets.used(merchant), seconds_of_today()
        record.headers.update(_headers("tokens", most, max(0, most - used), wait))
        if used >= most:
            raise self._refusal(merchant, "tokens", "tokens a day of UTC", most, wait)

    def _refusal(self, merchant: str, limit: str, what: str, most: int, wait: float) -> LimitExceeded:
        self._metrics.limited(limit)
        who, more = "this merchant has", "`shopfit limit set`"
        if merchant == PLATFORM:
            who, more = "the platform's keys have", "`shopfit serve --platform-requests-per-minute`"
        return LimitExceeded(
            f"{who} used up what may be asked (allowed: {what}, at most {most:,})",
            retry_after=wait,
            next_step=f"try again later, or ask whoever runs the platform for more: {more}",
        )


def _in_force(own: int | None, usual: int | None) -> int | None:
    """A merchant's own limit or the usual one; None for none."""
    return usual if own is None else None if own == UNLIMITED else own


def _headers(what: str, most: int, left: int, wait: float) -> dict[str, str]:
    """As OpenAI's API has them."""
    return {
        f"x-ratelimit-limit-{what}": str(most),
        f"x-ratelimit-remaining-{what}": str(left),
        f"x-ratelimit-reset-{what}": f"{math.ceil(wait)}s",
    }
