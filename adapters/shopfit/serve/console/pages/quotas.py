"""Quotas: what each merchant may ask, what it used today, and setting that."""

from dataclasses import asdict
from typing import Annotated

from fastapi import Form
from starlette.responses import Response

from shopfit.registry import UNLIMITED, Limits
from shopfit.serve.console.confirming import Change, confirm
from shopfit.serve.console.routes import BadForm, NoPage, Paged, Visit, Visits, page_router, query_of
from shopfit.serve.endpoints.changes import change

router = page_router()

_PLACE = "/console/serving/quotas"
_KINDS = ("requests_per_minute", "concurrent", "tokens_per_day")


@router.get("/serving/quotas")
async def quotas(visit: Visits, q: str = "", page: int = 1) -> Response:
    """Every merchant's; those that have quotas of their own first."""
    gateway, own = visit.gateway, visit.grant.merchant
    visit.check("admin", own)
    names = [name for name in await _merchants(visit) if q.strip().lower() in name]
    limited = gateway.state.limits
    names.sort(key=lambda name: (name not in limited, name))
    paged = Paged(names, page)
    return visit.page(
        "serving_quotas.html",
        rows=[
            (name, limited.get(name, Limits()), gateway.limits.of(name), await gateway.budgets.used(name))
            for name in paged.rows
        ],
        unlimited=UNLIMITED,
        **paged.place,
        filters={"q": q},
        query=lambda **more: query_of({"q": q} | more),
        sets=visit.grant.allows("admin", None),
    )


@router.get("/serving/quotas/{merchant}")
async def quota(visit: Visits, merchant: str) -> Response:
    """The form of a merchant's."""
    limits = await _of(visit, merchant)
    options = visit.gateway.options
    return visit.page(
        "serving_quota.html",
        merchant=merchant,
        kinds=_KINDS,
        now={kind: _typed(value) for kind, value in asdict(limits).items()},
        usual={kind: getattr(options, kind) for kind in _KINDS},
        used=await visit.gateway.budgets.used(merchant),
    )


@router.get("/serving/quotas/{merchant}/set")
async def ask_to_set(
    visit: Visits, merchant: str, requests_per_minute: str = "", concurrent: str = "", tokens_per_day: str = ""
) -> Response:
    """Say what will change."""
    before, t = await _of(visit, merchant), visit.t
    typed = dict(zip(_KINDS, (requests_per_minute, concurrent, tokens_per_day), strict=True))
    after = _limits(typed)
    changes = [
        Change(t(f"quotas.{kind}"), _told(visit, kind, getattr(before, kind)), _told(visit, kind, getattr(after, kind)))
        for kind in _KINDS
    ]
    stops = 0 in asdict(after).values()
    return confirm(
        visit,
        t("quotas.set_title", merchant=merchant),
        action=f"{_PLACE}/{merchant}",
        button=t("quotas.set"),
        back=f"{_PLACE}/{merchant}",
        lines=[t("quotas.set_what")],
        changes=changes,
        warning=t("quotas.nothing") if stops else "",
        hidden={kind: value.strip() for kind, value in typed.items()},
    )


@router.post("/serving/quotas/{merchant}")
async def set_quota(
    visit: Visits,
    merchant: str,
    requests_per_minute: Annotated[str, Form()] = "",
    concurrent: Annotated[str, Form()] = "",
    tokens_per_day: Annotated[str, Form()] = "",
) -> Response:
    """Set all three."""
    await _of(visit, merchant)
    limits = _limits(dict(zip(_KINDS, (requests_per_minute, concurrent, tokens_per_day), strict=True)))
    registry, who = visit.gateway.registry, visit.actor
    await change(visit.asking, lambda: registry.set_limits(merchant, limits, actor=who))
    return visit.to(_PLACE, q=merchant)


async def _merchants(visit: Visit) -> list[str]:
    """Those that a quota may be set for: with versions or keys."""
    gateway, own = visit.gateway, visit.grant.merchant
    if own is not None:
        return [own]
    adapters = await gateway.threads.run(gateway.fleet.adapters)
    keys = await gateway.threads.run(gateway.kept.keys, None)
    return sorted({one.merchant for one in adapters} | {key.merchant for key in keys if key.merchant})


async def _of(visit: Visit, merchant: str) -> Limits:
    """A merchant's own limits, for who may set them: nobody gives a quota to themselves."""
    visit.sees(merchant)
    visit.check("admin", None)
    if merchant not in await _merchants(visit):
        raise NoPage("there is no such merchant", next_step="go back to the list of quotas")
    return visit.gateway.state.limits.get(merchant, Limits())


def _limits(typed: dict[str, str]) -> Limits:
    return Limits(**{kind: _number(kind, text.strip().replace(",", "")) for kind, text in typed.items()})


def _number(kind: str, text: str) -> int | None:
    if text.lower() in ("", "unlimited"):
        return UNLIMITED if text else None
    if not text.isascii() or not text.isdigit() or int(text[:20]) > 10**15:
        raise BadForm(
            f"{kind.replace('_', ' ')} is {text[:40]!r} (allowed: a whole number up to 10^15, `unlimited`, or nothing)",
            next_step="correct it",
        )
    return int(text)


def _typed(value: int | None) -> str:
    return "" if value is None else "unlimited" if value == UNLIMITED else str(value)


def _told(visit: Visit, kind: str, value: int | None) -> str:
    if value == UNLIMITED:
        return visit.t("serving.unlimited")
    if value is not None:
        return f"{value:,}"
    usual = getattr(visit.gateway.options, kind)
    return visit.t("quotas.usual", value=visit.t("serving.no_limit") if usual is None else f"{usual:,}")
