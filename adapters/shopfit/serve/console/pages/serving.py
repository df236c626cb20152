"""Serving: engines and what they hold, who asks how much, releases under way, and what failed lately."""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path
from typing import Any, Literal

from starlette.responses import Response

from shopfit.registry import Limits, Release, Version
from shopfit.registry.temp_folders import Space
from shopfit.serve.console.routes import Visit, Visits, page_router, query_of
from shopfit.serve.engine_statuses import ask_engines
from shopfit.serve.traffic import AdapterTraffic

router = page_router()

_ROWS = 50
_FAILURES = 20
_TIMED = 1000  # adapters whose times are looked at: those asked last
Order = Literal["requests", "tokens", "errors", "p95"]
_ORDERS: dict[Order, Callable[[AdapterTraffic], float]] = {
    "requests": lambda found: found.requests,
    "tokens": lambda found: found.tokens,
    "errors": lambda found: found.errors,
    "p95": lambda found: found.p95 or 0.0,
}


@dataclass(frozen=True, slots=True)
class EngineShown:
    """An engine.

    Args:
        label: of its base.
        state: "running", "starting" or "restarting".
        process: its number; None without.
        starts: of processes so far.
        under_way: requests that it has not answered.
        status: what it holds (`shopfit.engine.Status`), as far as it says.
    """

    label: str
    state: str
    process: int | None
    starts: int
    under_way: int
    status: dict[str, Any] = field(hash=False)


@dataclass(frozen=True, slots=True)
class TenantShown:
    """An adapter that was asked.

    Args:
        name: of the adapter.
        merchant: whose it is.
        production: the version that answers; None if none does any more.
        traffic: since this gateway started.
        share: of all tokens that were read and written for what the key sees.
        used: tokens of the merchant today.
        limits: of the merchant.
    """

    name: str
    merchant: str
    production: Version | None
    traffic: AdapterTraffic
    share: float
    used: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class ReleaseShown:
    """A release under way.

    Args:
        release: as the registry has it.
        production: the version that it is beside.
        requests: that its version answered.
        beside: that the version in production answered.
        outcomes: of a shadow: how often its answers were the same, different and so on.
    """

    release: Release
    production: Version | None
    requests: int
    beside: int
    outcomes: dict[str, int] = field(hash=False)

    @property
    def compared(self) -> int:
        """Answers of a shadow that could be compared."""
        return self.outcomes.get("same", 0) + self.outcomes.get("different", 0)


@router.get("/serving")
async def serving(visit: Visits, q: str = "", order: Order = "requests", live: str = "on") -> Response:
    """Everything of it; the page asks again by itself."""
    gateway, own = visit.gateway, visit.grant.merchant
    adapters = await gateway.threads.run(gateway.fleet.adapters)
    production = {one.name: one.production for one in adapters if own in (None, one.merchant)}
    engines = await _engines(visit) if own is None else []
    packed = await gateway.threads.run(_packed, gateway.settings.cache) if own is None else Space()
    tenants, asked = await _tenants(visit, production, q.strip().lower(), order)
    filters = {"q": q, "order": order if order != "requests" else "", "live": "off" if live == "off" else ""}
    return visit.page(
        "serving.html",
        engines=engines,
        held=[(engine.label, one) for engine in engines for one in engine.status.get("held", ())],
        packed=packed,
        tenants=tenants,
        asked=asked,
        releases=_releases(visit, production),
        failures=gateway.traffic.failures(own)[:_FAILURES],
        filters=filters,
        order=order,
        orders=list(_ORDERS),
        live=live != "off",
        query=lambda **more: query_of(filters | more),
        administers=visit.grant.allows("admin", own),
    )


async def _engines(visit: Visit) -> list[EngineShown]:
    pool, metrics = visit.gateway.engines, visit.gateway.metrics.engines
    await ask_engines(pool, metrics)
    return [
        EngineShown(
            engine.base.label,
            "running" if engine.running is not None else "restarting" if engine.settled else "starting",
            None if engine.running is None else engine.running.number,
            engine.starts,
            engine.under_way,
            dict(metrics.statuses.get(f"{engine.base.name}:{engine.base.quantization}", {})),
        )
        for engine in pool.engines
    ]


def _packed(cache: Path) -> Space:
    """Adapters that are ready to be loaded from this machine's disk."""
    try:
        sizes = [path.stat().st_size for path in (cache / "packed").iterdir()]
    except OSError:  # there are none yet, or one was removed meanwhile
        return Space()
    return Space(len(sizes), sum(sizes))


async def _tenants(
    visit: Visit, production: dict[str, Version | None], search: str, order: Order
) -> tuple[list[TenantShown], int]:
    """The adapters that were asked most, and how many were asked at all."""
    gateway = visit.gateway
    seen = {
        name: found
        for name, found in gateway.traffic.all().items()
        if visit.grant.merchant in (None, name.partition("/")[0])
    }
    tokens = sum(found.tokens for found in seen.values())
    wanted = [name for name in seen if search in name]
    ordered = wanted[-_TIMED:] if order == "p95" else wanted
    rows = []
    for name in nlargest(_ROWS, ordered, key=lambda one: _ORDERS[order](seen[one])):
        found, merchant = seen[name], name.partition("/")[0]
        used, limits = await gateway.budgets.used(merchant), gateway.limits.of(merchant)
        share = found.tokens / tokens if tokens else 0.0
        rows.append(TenantShown(name, merchant, production.get(name), found, share, used, limits))
    return rows, len(wanted)


def _releases(visit: Visit, production: dict[str, Version | None]) -> list[ReleaseShown]:
    shown = []
    for (merchant, recipe), releases in sorted(visit.gateway.state.releases.items()):
        if visit.grant.merchant not in (None, merchant):
            continue
        name = f"{merchant}/{recipe}"
        traffic, serves = visit.gateway.traffic.of(name), production.get(name)
        beside = 0 if serves is None else traffic.versions.get(serves.name, 0)
        shown += [
            ReleaseShown(
                one, serves, traffic.versions.get(one.name, 0), beside, dict(traffic.shadows.get(one.name, {}))
            )
            for one in releases
        ]
    return shown
