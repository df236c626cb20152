"""Registry: what it keeps of every merchant, and the versions of an adapter with where they come from."""

from collections.abc import Sequence
from typing import Literal

from starlette.responses import Response

from shopfit.recipe.names import HOUSE, is_slug
from shopfit.registry import AuditEntry, Version
from shopfit.serve.console.lineage import MOST, in_production, lineage
from shopfit.serve.console.registry_table import Keeper, shown_to
from shopfit.serve.console.routes import NoPage, Paged, Visit, Visits, page_router, query_of
from shopfit.serve.engines.pool import public_name

router = page_router()

_MOVES = 500  # entries of the audit that tell what was in production when


@router.get("/registry")
async def registry(visit: Visits, q: str = "", order: Literal["name", "disk"] = "name", page: int = 1) -> Response:
    """Merchants with their adapters, and the space that they take."""
    kept, search = visit.gateway.kept, q.strip().lower()
    every = await visit.gateway.threads.run(kept.keepers, visit.grant.merchant)
    found = [one for one in every if search in one.name or any(search in adapter.recipe for adapter in one.adapters)]
    if order == "disk":
        found = sorted(found, key=lambda one: one.bytes, reverse=True)
    paged = Paged(found, page)
    filters = {"q": q, "order": "" if order == "name" else order}
    return visit.page(
        "registry.html",
        rows=paged.rows,
        merchants=len([one for one in every if one.name != HOUSE]),
        adapters=sum(len(one.adapters) for one in every),
        versions=sum(one.versions for one in every),
        bytes=sum(one.bytes for one in every),
        **paged.place,
        order=order,
        filters=filters,
        house=HOUSE,
        query=lambda **more: query_of(filters | more),
        erases=lambda name: name != HOUSE and visit.grant.allows("admin", name),
        collects=visit.grant.allows("admin", None),
    )


@router.get("/registry/{merchant}")
async def merchant_page(visit: Visits, merchant: str) -> Response:
    """A merchant's adapters, as the list shows them."""
    keeper = await find_keeper(visit, merchant)
    return visit.to("/console/registry", q=keeper.name)


@router.get("/registry/{merchant}/{recipe}")
async def adapter(visit: Visits, merchant: str, recipe: str, page: int = 1) -> Response:
    """The versions of an adapter, and where they come from."""
    versions = await find_versions(visit, merchant, recipe)
    gateway = visit.gateway
    drawn = versions[-MOST:]
    starts = await gateway.threads.run(_starts, visit, drawn)
    production = in_production(await gateway.threads.run(_moves, visit, merchant, recipe))
    newest = versions[::-1]
    paged = Paged(newest, page)
    named = {alias: version for version in versions for alias in version.aliases}
    return visit.page(
        "registry_adapter.html",
        merchant=merchant,
        recipe=recipe,
        versions=paged.rows,
        **paged.place,
        query=lambda **more: query_of(more),
        drawing=lineage(drawn, starts, production),
        drawn=len(drawn),
        starts=starts,
        followed=dict(zip(production[1:], production, strict=False)),
        bytes=sum(version.size for version in versions),
        public_name=public_name,
        production=named.get("production"),
        previous=named.get("previous"),
        promotes=visit.grant.allows("promote", merchant) and merchant != HOUSE,
        erases=visit.grant.allows("admin", merchant) and merchant != HOUSE,
    )


async def find_keeper(visit: Visit, merchant: str) -> Keeper:
    """What the registry keeps of a merchant that the key may see.

    Raises:
        NoPage: if there is nothing, or the merchant is another one.
    """
    _may_see(visit, merchant)
    found = await visit.gateway.threads.run(visit.gateway.kept.keepers, merchant)
    if not found:
        raise _nothing()
    return found[0]


async def find_versions(visit: Visit, merchant: str, recipe: str) -> list[Version]:
    """The versions of an adapter that the key may see, by number.

    Raises:
        NoPage: if there are none, or the merchant is another one.
    """
    _may_see(visit, merchant)
    if not is_slug(recipe):
        raise _nothing()
    versions = await visit.gateway.threads.run(visit.gateway.registry.versions, merchant, recipe)
    if not versions:
        raise _nothing()
    return versions


def started_from(visit: Visit, version: Version) -> str:
    """What a version started from, as the key may know it; empty if its files are damaged. It blocks."""
    manifest = visit.gateway.kept.manifest(version)
    return "" if manifest is None else told(visit, manifest.start)


def told(visit: Visit, text: str) -> str:
    """A text that shopfit wrote of a version, as the key may see it."""
    return shown_to(text, visit.grant.merchant, visit.t("registry.another"))


def _may_see(visit: Visit, merchant: str) -> None:
    if not is_slug(merchant):
        raise _nothing()
    visit.reads(merchant)


def _nothing() -> NoPage:
    return NoPage("there is no such page, or not for this key", next_step="go back to the registry")


def _starts(visit: Visit, versions: Sequence[Version]) -> dict[int, str]:
    return {version.number: started_from(visit, version) for version in versions}


def _moves(visit: Visit, merchant: str, recipe: str) -> list[AuditEntry]:
    """What moved aliases of an adapter, oldest first."""
    registry, found = visit.gateway.registry, []
    for action in ("promote", "rollback"):
        found += registry.audit_page(merchant, recipe=recipe, action=action, most=_MOVES, since_erased=True)[1]
    return sorted(found, key=lambda entry: entry.time)
