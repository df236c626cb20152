"""Audit: who changed what, the newest first."""

import json
from typing import Any

from starlette.responses import Response

from shopfit.recipe.names import is_slug
from shopfit.registry import AuditEntry
from shopfit.serve.console.formats import size
from shopfit.serve.console.routes import NoPage, Visits, page_router, query_of
from shopfit.serve.console.wording import Wording

router = page_router()

_ROWS = 50
ACTIONS = (
    "publish",
    "promote",
    "rollback",
    "unalias",
    "remove",
    "release",
    "release-end",
    "limit",
    "catalog",
    "catalog-drop",
    "key-create",
    "key-revoke",
    "erase-begun",
    "erase",
)
"""What entries are of; see `AuditEntry`."""


@router.get("/registry/-/audit")
async def audit(visit: Visits, merchant: str = "", action: str = "", page: int = 1) -> Response:
    """The entries of all, or of a merchant; of a merchant's key its own."""
    own = visit.grant.merchant
    wanted = merchant.strip().lower() or own
    if wanted:
        visit.reads(wanted)
        if not is_slug(wanted):
            raise NoPage("this cannot be a merchant's name", next_step="correct it")
    if action and action not in ACTIONS:
        raise NoPage("there is no such action", next_step="choose one from the list")
    registry, page = visit.gateway.registry, min(max(1, page), 10**6)
    total, entries = await visit.gateway.threads.run(
        lambda: registry.audit_page(
            wanted, action=action, skip=(page - 1) * _ROWS, most=_ROWS, since_erased=own is not None
        )
    )
    filters = {"merchant": "" if own else (wanted or ""), "action": action}
    return visit.page(
        "registry_audit.html",
        entries=[(entry, *_place(entry), _detail(entry, visit.t)) for entry in entries],
        total=total,
        first=(page - 1) * _ROWS + 1,
        number=page,
        last=max(1, -(-total // _ROWS)),
        filters=filters,
        actions=ACTIONS,
        query=lambda **more: query_of(filters | more),
    )


def _place(entry: AuditEntry) -> tuple[str, str]:
    """What an entry is about, and where that is to be seen; empty where it is not."""
    adapter, _, number = entry.reference.partition("@")
    there = entry.action not in ("remove", "erase", "erase-begun")
    return entry.reference, f"/console/registry/{adapter}/{number}" if number and there else ""


def _detail(entry: AuditEntry, t: Wording) -> str:
    """What changed; the audit keeps what is erased as JSON."""
    if not entry.action.startswith("erase"):
        return entry.detail
    try:
        told: dict[str, Any] = json.loads(entry.detail)
        counts = {"versions": len(told["versions"]), "aliases": len(told["aliases"]), "keys": told.get("keys", 0)}
        if entry.action == "erase-begun":
            return t("audit.erase_begun", **counts)
        spaces = [told["blobs"], told["orphans"], *told["local"].values()]
        return t("audit.erased", size=size(sum(one["bytes"] for one in spaces)), **counts)
    except (ValueError, KeyError, TypeError, AttributeError):  # of another release
        return entry.detail
