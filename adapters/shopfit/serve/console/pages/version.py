"""One version: its report, card, files and data; the difference of two; and removing one."""

import asyncio
from collections.abc import Collection
from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from shopfit.adapter.bundle import MANIFEST, HeldBundle
from shopfit.errors import BundleError
from shopfit.evaluation.report import CARD, PLOT, REPORT, Report
from shopfit.recipe.names import HOUSE
from shopfit.registry import Version
from shopfit.serve.console.confirming import confirm
from shopfit.serve.console.differences import differences
from shopfit.serve.console.pages.registry import find_versions, told
from shopfit.serve.console.rendering import HEADERS
from shopfit.serve.console.routes import NoPage, Visit, Visits, page_router
from shopfit.serve.endpoints.changes import change
from shopfit.serve.engines.pool import public_name

router = page_router()

Number = Annotated[int, Path(ge=1, lt=10**9)]
_PNG = b"\x89PNG\r\n\x1a\n"
_ONLY_SEEN = "default-src 'none'; sandbox; frame-ancestors 'none'"
_LONGEST_CARD = 200_000  # characters
_ENTRIES = 20


@router.get("/registry/{merchant}/{recipe}/diff")
async def diff(
    visit: Visits,
    merchant: str,
    recipe: str,
    a: Annotated[int | None, Query(ge=1, lt=10**9)] = None,
    b: Annotated[int | None, Query(ge=1, lt=10**9)] = None,
) -> Response:
    """What is different in two versions; by default in the two newest."""
    versions = await find_versions(visit, merchant, recipe)
    by_number = {version.number: version for version in versions}
    second = by_number.get(b or versions[-1].number)
    first = by_number.get(a or versions[max(0, len(versions) - 2)].number)
    if first is None or second is None:
        raise _nothing()
    threads, kept = visit.gateway.threads, visit.gateway.kept
    manifests = [await threads.run(kept.manifest, version) for version in (first, second)]
    found = None
    if manifests[0] is not None and manifests[1] is not None:
        found = differences(manifests[0], manifests[1])
        starts = [told(visit, manifest.start) for manifest in manifests if manifest is not None]
        found.facts.insert(0, ("start", starts[0], starts[1]))
    return visit.page(
        "registry_diff.html", merchant=merchant, recipe=recipe, versions=versions[::-1], a=first, b=second, found=found
    )


@router.get("/registry/{merchant}/{recipe}/{number}")
async def version_page(visit: Visits, merchant: str, recipe: str, number: Number) -> Response:
    """All that is known of it."""
    versions, version = await _find(visit, merchant, recipe, number)
    threads, registry = visit.gateway.threads, visit.gateway.registry
    held, damage = await _read(visit, version)
    report, broken = _report(held)
    card = None if held is None else held.contents.get(CARD)
    named = {alias: one for one in versions for alias in one.aliases}
    releases = [one for one in visit.gateway.state.releases.get((merchant, recipe), ()) if one.number == number]
    audit = await threads.run(lambda: registry.audit_page(merchant, recipe=recipe, most=200, since_erased=True)[1])
    return visit.page(
        "registry_version.html",
        merchant=merchant,
        recipe=recipe,
        version=version,
        manifest=None if held is None else held.manifest,
        start="" if held is None else told(visit, held.manifest.start),
        damage=damage or broken,
        report=report,
        reason=told(visit, report.verdict.reason if report is not None else version.reason),
        name_of=lambda name: told(visit, name),
        card="" if card is None else told(visit, card[:_LONGEST_CARD].decode("utf-8", "replace")),
        files=await threads.run(registry.listed, version),
        picture=PLOT,
        public_name=public_name,
        before=max((one.number for one in versions if one.number < number), default=None),
        production=named.get("production"),
        previous=named.get("previous"),
        releases=releases,
        audit=[entry for entry in audit if entry.reference == version.name][:_ENTRIES],
        promotes=visit.grant.allows("promote", merchant) and merchant != HOUSE,
        removes=visit.grant.allows("admin", merchant),
    )


@router.get("/registry/{merchant}/{recipe}/{number}/report.png")
async def picture(visit: Visits, merchant: str, recipe: str, number: Number) -> Response:
    """The picture of its report."""
    _, version = await _find(visit, merchant, recipe, number)
    held, _ = await _read(visit, version, {PLOT})
    content = None if held is None else held.contents.get(PLOT)
    if content is None or not content.startswith(_PNG):
        raise _nothing()
    headers = dict(HEADERS) | {"content-security-policy": _ONLY_SEEN, "etag": f'"{version.digest}"'}
    return Response(content, media_type="image/png", headers=headers)


@router.get("/registry/{merchant}/{recipe}/{number}/remove")
async def ask_to_remove(visit: Visits, merchant: str, recipe: str, number: Number) -> Response:
    """Say what will go."""
    _, version = await _find(visit, merchant, recipe, number)
    visit.check("admin", merchant)
    t = visit.t
    return confirm(
        visit,
        t("version.remove_title", name=version.name),
        action=f"/console/registry/{merchant}/{recipe}/{number}/remove",
        button=t("version.remove"),
        back=f"/console/registry/{merchant}/{recipe}/{number}",
        lines=[t("version.remove_what"), t("version.remove_number", number=number)],
        warning=t("version.remove_not", aliases=" ".join(f"@{one}" for one in version.aliases))
        if version.aliases
        else "",
        danger=True,
    )


@router.post("/registry/{merchant}/{recipe}/{number}/remove")
async def remove(visit: Visits, merchant: str, recipe: str, number: Number) -> Response:
    """Remove it."""
    versions, version = await _find(visit, merchant, recipe, number)
    visit.check("admin", merchant)
    registry, who = visit.gateway.registry, visit.actor
    await change(visit.asking, lambda: registry.remove(version.name, actor=who))
    return visit.to(f"/console/registry/{merchant}/{recipe}" if len(versions) > 1 else "/console/registry")


async def _find(visit: Visit, merchant: str, recipe: str, number: int) -> tuple[list[Version], Version]:
    """The versions of an adapter, and the one of a number."""
    versions = await find_versions(visit, merchant, recipe)
    version = next((one for one in versions if one.number == number), None)
    if version is None:
        raise _nothing()
    return versions, version


async def _read(
    visit: Visit, version: Version, wanted: Collection[str] = (CARD, REPORT)
) -> tuple[HeldBundle | None, str]:
    """Files of a version as they were published; or why they cannot be read."""
    registry, cache = visit.gateway.registry, visit.gateway.settings.cache

    def needed(paths: Collection[str]) -> Collection[str]:
        return {MANIFEST, *wanted}.intersection(paths)

    try:
        return await asyncio.shield(visit.gateway.threads.run(registry.read, version, needed, cache)), ""
    except BundleError as error:
        return None, "; ".join([error.message, *map(str, error.problems[:3])])


def _report(held: HeldBundle | None) -> tuple[Report | None, str]:
    content = None if held is None else held.contents.get(REPORT)
    if content is None:
        return None, ""
    try:
        return Report.from_json(content), ""
    except BundleError as error:
        return None, error.message


def _nothing() -> NoPage:
    return NoPage("there is no such version, or not for this key", next_step="go back to the registry")
