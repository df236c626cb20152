"""Compare: two versions on the same rows and on a question of the moment, and which of them answers from now on."""

from typing import Annotated, Any

from fastapi import Form
from starlette.responses import Response

from shopfit.registry import Reference, Version
from shopfit.serve.console.asking import answer_both, find_version
from shopfit.serve.console.comparisons import comparing
from shopfit.serve.console.fleet_table import Adapter
from shopfit.serve.console.release_changes import CHANGES, Change, Released, call_of, released
from shopfit.serve.console.routes import BadForm, NoPage, Visit, Visits, page_router, query_of
from shopfit.serve.console.try_form import TryForm
from shopfit.serve.endpoints.changes import change as change_registry

router = page_router()

_PLACE = "/console/compare"
_ROWS = 25
_LISTED = 200
_SHOWN = ("", "first", "second")


@router.get("/compare")
async def compare(
    visit: Visits, model: str = "", a: str = "", b: str = "", show: str = "", page: int = 1, done: str = ""
) -> Response:
    """Two versions; without any, adapters to choose from."""
    if not (model or a or b):
        return await _choose(visit)
    state, pair = await _pair(visit, model, a, b)
    if pair is None:
        only = state.versions[0]
        may = visit.grant.allows("promote", only.merchant) and state.may("promote", only)
        shown = {"only": only, "may_promote": may, "done": done if done in CHANGES else ""}
        return visit.page("compare_none.html", state=state, names=[], adapter=state.adapter, listed=True, **shown)
    return visit.page("compare.html", **await _all(visit, state, pair, show, page, done))


@router.get("/compare/state")
async def state_of(visit: Visits, a: str, b: str) -> Response:
    """The comparison as far as it is, as a part of the page."""
    state, pair = await _pair(visit, "", a, b)
    assert pair is not None
    return visit.page("compare_result.html", **await _told(visit, state, pair, "", 1))


@router.post("/compare/run")
async def run(visit: Visits, a: Annotated[str, Form()], b: Annotated[str, Form()]) -> Response:
    """Queue the comparison on the merchant's rows."""
    _, pair = await _pair(visit, "", a, b)
    assert pair is not None
    first, second = pair
    visit.check("publish", first.merchant)

    def start() -> None:
        if comparing(visit.home, first, second).under_way:
            return
        names = (first.name, second.name)
        visit.queue("compare", first.merchant, first.recipe, names)

    await visit.gateway.threads.run_long(first.merchant, start)
    await visit.gateway.runs.wake()
    return visit.to(_PLACE, a=first.name, b=second.name)


@router.post("/compare/ask")
async def ask(visit: Visits) -> Response:
    """What both versions answer to a question of the moment."""
    sent = await visit.request.form()
    values = {name: value for name, value in sent.items() if isinstance(value, str) and name not in ("csrf", "a", "b")}
    state, pair = await _pair(visit, "", str(sent.get("a", "")), str(sent.get("b", "")))
    assert pair is not None
    forms = [TryForm(one.name, (await find_version(visit, one.name))[1], values) for one in pair]
    answers = await answer_both(visit, (pair[0].name, pair[1].name), (forms[0].question(), forms[1].question()))
    if "hx-request" in visit.request.headers:
        return visit.page("compare_both.html", both=answers)
    told = await _all(visit, state, pair, "", 1, "")
    return visit.page("compare.html", **told | {"form": forms[1], "both": answers})


@router.get("/compare/{change}")
async def confirm(visit: Visits, change: str, version: str, a: str, b: str, share: int = 10) -> Response:
    """Say what a change will change, before it is done."""
    kind, state, chosen = await _changing(visit, change, version)
    words = state.words(kind, chosen, _percent(share))
    part = "hx-request" in visit.request.headers
    same = kind == "canary" and state.canary is not None and state.canary.number == chosen.number
    values = {
        "change": kind,
        "asks": "share" if same else kind,
        "words": words,
        "chosen": chosen,
        "a": a,
        "b": b,
        "share": share,
        "part": part,
    }
    return visit.page("compare_confirm.html" if part else "compare_confirm_page.html", **values)


@router.post("/compare/{change}")
async def make(
    visit: Visits,
    change: str,
    version: Annotated[str, Form()],
    a: Annotated[str, Form()],
    b: Annotated[str, Form()],
    share: Annotated[int, Form()] = 10,
) -> Response:
    """Make a change that was confirmed, and show what the audit says of it."""
    kind, state, chosen = await _changing(visit, change, version)
    state.words(kind, chosen, _percent(share))  # raises if it is not to be had any more
    await change_registry(visit.asking, call_of(visit.gateway.registry, kind, chosen, share, visit.actor))
    await visit.gateway.adapters.refresh(Reference(chosen.merchant, chosen.recipe))
    return visit.to(_PLACE, a=a, b=b, done=kind)


async def _choose(visit: Visit) -> Response:
    own = visit.grant.merchant
    adapters = await visit.gateway.threads.run(visit.gateway.fleet.adapters)
    found = [one for one in adapters if own in (None, one.merchant)]
    several = [one.name for one in sorted(found, key=_waits) if one.versions > 1]
    listed = len(several) <= _LISTED
    return visit.page("compare_none.html", state=None, names=several[:_LISTED], adapter="", listed=listed)


def _waits(adapter: Adapter) -> bool:
    """False for those that somebody must decide on, which come first."""
    return adapter.candidate is None


async def _pair(visit: Visit, model: str, a: str, b: str) -> tuple[Released, tuple[Version, Version] | None]:
    """The adapter and the two versions; None in their place if it has only one."""
    given = [Reference.parse(one) for one in (model, a, b) if one]
    if not given:
        raise NoPage("no versions are named", next_step="choose an adapter")
    merchant, recipe = given[0].merchant, given[0].recipe
    visit.reads(merchant)
    if any((one.merchant, one.recipe) != (merchant, recipe) for one in given):
        raise BadForm("these are versions of different adapters", next_step="choose two of the same one")
    state = await visit.gateway.threads.run(released, visit.gateway.registry, merchant, recipe)
    second = _version(state, b) if b else None
    first = _version(state, a) if a else None
    if len(state.versions) < 2:
        return state, None
    newest = list(reversed(state.versions))
    if first is None:
        first = next((one for one in (state.production, *newest) if one is not None and one != second), newest[0])
    if second is None:
        second = next(one for one in (state.named("candidate"), *newest) if one is not None and one != first)
    if first == second:
        second = next(one for one in newest if one != first)
    return state, (first, second)


def _version(state: Released, reference: str) -> Version:
    wanted = Reference.parse(reference)
    found = [
        one for one in state.versions if one.number == wanted.number or (wanted.alias and wanted.alias in one.aliases)
    ]
    if not found:
        raise NoPage(f"there is no version {wanted}", next_step="choose one of those that there are")
    return found[0]


async def _told(visit: Visit, state: Released, pair: tuple[Version, Version], show: str, page: int) -> dict[str, Any]:
    first, second = pair
    known = await visit.gateway.threads.run_long(first.merchant, lambda: comparing(visit.home, first, second))
    show = show if show in _SHOWN else ""
    rows = known.rows(show)
    last = max(1, -(-len(rows) // _ROWS))
    page = min(max(1, page), last)
    return {
        "state": state,
        "first": first,
        "second": second,
        "known": known,
        "rows": rows[(page - 1) * _ROWS : page * _ROWS],
        "show": show,
        "number": page,
        "last": last,
        "start_row": (page - 1) * _ROWS + 1,
        "total": len(rows),
        "query": lambda **more: query_of({"a": first.name, "b": second.name, "show": show} | more),
        "may_run": visit.grant.allows("publish", first.merchant),
    }


async def _all(
    visit: Visit, state: Released, pair: tuple[Version, Version], show: str, page: int, done: str
) -> dict[str, Any]:
    may_ask = visit.grant.allows("infer", pair[0].merchant)
    form = TryForm(pair[1].name, (await find_version(visit, pair[1].name))[1]) if may_ask else None
    return {
        **await _told(visit, state, pair, show, page),
        "may_promote": visit.grant.allows("promote", pair[0].merchant),
        "form": form,
        "both": None,
        "done": done if done in CHANGES else "",
    }


async def _changing(visit: Visit, change: str, version: str) -> tuple[Change, Released, Version]:
    """The change that is meant, what answers now, and the version that it is about, for who may do that."""
    kind = next((one for one in CHANGES if one == change), None)
    if kind is None:
        raise NoPage("there is no such page", next_step="go back to the start")
    reference = Reference.parse(version)
    visit.reads(reference.merchant)
    visit.check("promote", reference.merchant)
    asked = (visit.gateway.registry, reference.merchant, reference.recipe)
    state = await visit.gateway.threads.run(released, *asked)
    return kind, state, _version(state, version)


def _percent(share: int) -> int:
    """A canary's share.

    Raises:
        BadForm: if it is none.
    """
    if not 1 <= share <= 100:
        raise BadForm(f"the share is {share}% (allowed: 1% to 100%)", next_step="move the slider")
    return share
