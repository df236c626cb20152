"""Try: ask an adapter, and see the prompt, the answer, what it is made of, and the same call for a program."""

from typing import Any

from starlette.responses import Response

from shopfit.serve.console.asking import answer, find_version, is_cold
from shopfit.serve.console.routes import Visit, Visits, page_router
from shopfit.serve.console.try_form import TryForm

router = page_router()

_LISTED = 200  # adapters that a list holds; of more, a name is typed
_PLACE = "/console/try"


@router.get("/try")
async def try_it(visit: Visits, model: str = "", at: str = "") -> Response:
    """The form of an adapter; without one, those that there are."""
    return await _page(visit, _named(model, at))


@router.post("/try")
async def tried(visit: Visits) -> Response:
    """The answer to what the form asks: as a part of the page, or the whole page without JavaScript."""
    values = await _values(visit)
    model = values.pop("model", "")
    if "hx-request" not in visit.request.headers:
        return await _page(visit, model, values)
    return visit.page("try_answer.html", **await _answered(visit, model, values))


@router.get("/try/box")
async def box(visit: Visits, model: str) -> Response:
    """The same in small, as a part of another page."""
    if "hx-request" not in visit.request.headers:
        return visit.to(_PLACE, model=model)
    version, recipe = await find_version(visit, model)
    cold = await is_cold(visit, version)
    return visit.page("try_box.html", form=TryForm(model, recipe), version=version, cold=cold)


@router.post("/try/box")
async def box_answer(visit: Visits) -> Response:
    """The answer in small."""
    values = await _values(visit)
    model = values.pop("model", "")
    return visit.page("try_box_answer.html", **await _answered(visit, model, values))


async def _page(visit: Visit, model: str, values: dict[str, str] | None = None) -> Response:
    threads, own = visit.gateway.threads, visit.grant.merchant
    adapters = [one for one in await threads.run(visit.gateway.fleet.adapters) if own in (None, one.merchant)]
    names = [one.name for one in adapters]
    if not model and len(names) == 1:
        model = names[0]
    shared: dict[str, Any] = {"names": names[:_LISTED], "listed": len(names) <= _LISTED, "model": model}
    if not model:
        return visit.page("try.html", **shared, form=None)
    idle = next((one for one in adapters if one.name == model.partition("@")[0] and one.production is None), None)
    if idle is not None and "@" not in model:  # nothing answers by that name alone
        model = shared["model"] = (idle.candidate or idle.newest).name
    version, recipe = await find_version(visit, model)
    versions = await threads.run(visit.gateway.registry.versions, version.merchant, version.recipe)
    shared["cold"] = await is_cold(visit, version)
    told = {} if values is None else await _answered(visit, model, values)
    shared |= {"adapter": f"{version.merchant}/{version.recipe}", "at": model.partition("@")[2], "serves": idle is None}
    form = told.pop("form", None) or TryForm(model, recipe)
    return visit.page("try.html", **shared, **{"answered": None, **told}, form=form, version=version, versions=versions)


async def _answered(visit: Visit, model: str, values: dict[str, str]) -> dict[str, object]:
    _, recipe = await find_version(visit, model)
    form = TryForm(model, recipe, values)
    question = form.question()
    return {
        "form": form,
        "answered": await answer(visit, model, question),
        "address": str(visit.request.base_url).rstrip("/"),
    }


async def _values(visit: Visit) -> dict[str, str]:
    sent = await visit.request.form()
    return {name: value for name, value in sent.items() if isinstance(value, str) and name != "csrf"}


def _named(model: str, at: str) -> str:
    """The name of a model, from a form that asks for adapter and version apart."""
    adapter = model.strip().partition("@")[0] if at else model.strip()
    return f"{adapter}@{at}" if adapter and at and at != "production" else adapter
