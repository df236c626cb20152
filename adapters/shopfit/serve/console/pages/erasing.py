"""Freeing disk of what nothing names, and erasing a merchant; both say first what would go."""

import base64
from datetime import timedelta
from typing import Annotated

from fastapi import Form, Query
from starlette.responses import Response

from shopfit.recipe.names import HOUSE, is_slug
from shopfit.registry.erasing import Receipt
from shopfit.registry.garbage import collect
from shopfit.runs.stopping import runs_ended, under_way
from shopfit.serve.console.rendering import HEADERS
from shopfit.serve.console.routes import NoPage, Visit, Visits, page_router
from shopfit.serve.endpoints.changes import see

router = page_router()

_HOURS = 24
_MOST_HOURS = 24 * 365


@router.get("/registry/-/gc")
async def garbage(visit: Visits, grace: Annotated[int, Query(ge=0, le=_MOST_HOURS)] = _HOURS) -> Response:
    """What could go."""
    return await _garbage(visit, grace, dry_run=True)


@router.post("/registry/-/gc")
async def collect_garbage(visit: Visits, grace: Annotated[int, Form(ge=0, le=_MOST_HOURS)] = _HOURS) -> Response:
    """Remove it."""
    return await _garbage(visit, grace, dry_run=False)


@router.get("/registry/-/erase/{merchant}")
async def ask_to_erase(visit: Visits, merchant: str) -> Response:
    """What would go, and the form where the merchant's name must be typed."""
    _check(visit, merchant)
    return await _asked(visit, merchant)


@router.post("/registry/-/erase/{merchant}")
async def erase(visit: Visits, merchant: str, name: Annotated[str, Form()] = "") -> Response:
    """End the merchant's runs, remove all that there is of it, and show the receipt."""
    _check(visit, merchant)
    if name.strip() != merchant:
        return await _asked(visit, merchant, mistyped=True)
    gateway, settings, who = visit.gateway, visit.gateway.settings, visit.actor

    def end_and_erase() -> Receipt:
        with runs_ended(settings.home, merchant):
            return gateway.registry.erase(merchant, settings, actor=who)

    receipt = await gateway.threads.run_long(merchant, end_and_erase)
    gateway.traffic.forget(merchant)
    gateway.labels.forget(merchant)
    await see(visit.asking)
    if visit.grant.merchant is None:
        return visit.to(f"/console/registry/-/erase/{merchant}/receipt")
    return _receipts(visit, merchant, [receipt])  # its key is gone, too: this is the last page that it is shown


@router.get("/registry/-/erase/{merchant}/receipt")
async def receipts(visit: Visits, merchant: str) -> Response:
    """The receipts of a merchant's erasures, the newest first."""
    _check(visit, merchant)
    found = await _earlier(visit, merchant)
    if not found:
        raise _nothing()
    return _receipts(visit, merchant, found)


@router.get("/registry/-/erase/{merchant}/receipt.json")
async def receipt_file(visit: Visits, merchant: str, number: Annotated[int, Query(ge=0)] = 0) -> Response:
    """A receipt as a file; 0 is the newest."""
    _check(visit, merchant)
    found = await _earlier(visit, merchant)
    if number >= len(found):
        raise _nothing()
    name = f"erased-{merchant}-{found[number].time:%Y%m%d-%H%M%S}.json"
    headers = dict(HEADERS) | {"content-disposition": f'attachment; filename="{name}"'}
    return Response(found[number].to_json(), media_type="application/json", headers=headers)


async def _garbage(visit: Visit, grace: int, *, dry_run: bool) -> Response:
    visit.check("admin", None)
    gateway = visit.gateway
    age = timedelta(hours=grace)
    found = await gateway.threads.run_long(
        "", lambda: collect(gateway.registry, gateway.settings, grace=age, dry_run=dry_run)
    )
    spaces = {"blobs": found.blobs, "cache": found.cache, "leavings": found.leavings}
    size, count = (sum(getattr(one, what) for one in spaces.values()) for what in ("bytes", "count"))
    more = {"grace": grace, "most": _MOST_HOURS, "done": not dry_run}
    return visit.page("registry_gc.html", spaces=spaces, bytes=size, count=count, **more)


async def _asked(visit: Visit, merchant: str, *, mistyped: bool = False) -> Response:
    gateway, settings, who = visit.gateway, visit.gateway.settings, visit.actor
    runs = await gateway.threads.run(under_way, settings.home, merchant)
    planned = await gateway.threads.run_long(
        merchant, lambda: gateway.registry.erase(merchant, settings, actor=who, dry_run=True)
    )
    earlier = await _earlier(visit, merchant)
    return visit.page(
        "registry_erase.html",
        status=422 if mistyped else 200,
        merchant=merchant,
        receipt=planned,
        left=planned.time not in {one.time for one in earlier},
        earlier=len(earlier),
        runs=runs,
        own=visit.grant.merchant == merchant,
        mistyped=mistyped,
    )


async def _earlier(visit: Visit, merchant: str) -> list[Receipt]:
    """Receipts, the newest first; none for a merchant's key, which is younger than each: the name was another's."""
    if visit.grant.merchant is not None:
        return []
    return (await visit.gateway.threads.run(visit.gateway.registry.receipts, merchant))[::-1]


def _receipts(visit: Visit, merchant: str, found: list[Receipt]) -> Response:
    own = visit.grant.merchant == merchant
    return visit.page(
        "registry_receipt.html",
        merchant=merchant,
        receipts=found,
        contents=[base64.b64encode(one.to_json().encode()).decode() for one in found] if own else [],
    )


def _check(visit: Visit, merchant: str) -> None:
    if not is_slug(merchant) or merchant == HOUSE:
        raise _nothing()
    visit.reads(merchant)
    visit.check("admin", merchant)


def _nothing() -> NoPage:
    return NoPage("there is no such page, or not for this key", next_step="go back to the registry")
