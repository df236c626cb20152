"""Label: rows one at a time, those first of which the adapter learns most; the learning curve; retraining."""

from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Form, UploadFile
from starlette.responses import Response

from shopfit.errors import ShopfitError
from shopfit.merchant import labeling
from shopfit.merchant.labeling import Labeling, Said
from shopfit.merchant.merchant import Merchant
from shopfit.runs import OVER, Job, Run
from shopfit.serve.console.label_queues import Catalogs
from shopfit.serve.console.label_view import answer_of, bounds, choices_of, fields_of, labels_of, title_of
from shopfit.serve.console.labelling import (
    Desk,
    Proposals,
    check_not_written,
    desk_of,
    merchants_of,
    proposals_of,
    recipes_of,
)
from shopfit.serve.console.rendering import as_data
from shopfit.serve.console.routes import BadForm, Paged, Visit, Visits, page_router, query_of

router = page_router()

_MANY = 9  # answers from which on there is a field to find one
_TOLD = ("label", "none", "skip", "undone", "nothing", "taken", "same", "gone", "again", "brought")

Text = Annotated[str, Form()]
Mark = Annotated[Literal["", "none", "skip"], Form()]


@router.get("/label")
async def choose(visit: Visits, merchant: str = "", q: str = "", page: int = 1) -> Response:
    """Choose whose rows are labelled, and for what."""
    names = await visit.gateway.threads.run(merchants_of, visit)
    if merchant:
        visit.reads(merchant)
    elif len(names) == 1:
        merchant = names[0]
    if merchant:
        recipes, written = await visit.gateway.threads.run_files(merchant, _offered, visit, merchant)
        one = len(names) == 1
        return visit.page("label_recipes.html", merchant=merchant, recipes=recipes, written=written, only=one)
    found = [name for name in names if q.strip().lower() in name]
    paged = Paged(found, page)
    return visit.page(
        "label_merchants.html",
        merchants=paged.rows,
        q=q,
        **paged.place,
        query=lambda **more: query_of({"q": q} | more),
    )


def _offered(visit: Visit, merchant: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Recipes that a merchant's rows can be labelled for, and those whose answers are written."""
    offered, written = [], []
    for name in recipes_of(visit, merchant):
        desk = desk_of(visit, merchant, name)
        recipe = desk.recipe
        if recipe.spec.written:
            written.append(name)
            continue
        facts: dict[str, Any] = {"name": name, "task": recipe.task, "description": recipe.description, "trouble": ""}
        try:
            state = _state(visit, desk)
        except ShopfitError as error:
            state = Labeling({}, (), ())
            facts["trouble"] = error.message
        known = bool(recipe.prompt.labels or recipe.data.bounds)
        if state.rows or state.examples or facts["trouble"] or known:
            waiting = len(state.open(visit.actor))
            offered.append(facts | {"waiting": waiting, "labelled": len(state.examples)})
    return sorted(offered, key=lambda one: (not one["waiting"], not one["labelled"])), written


@router.get("/label/{merchant}/{recipe}")
async def queue(visit: Visits, merchant: str, recipe: str, row: str = "", told: str = "", find: str = "") -> Response:
    """The queue of one recipe."""
    desk = await visit.gateway.threads.run_files(merchant, _desk, visit, merchant, recipe)
    return await visit.gateway.threads.run_files(merchant, _page, visit, desk, "label.html", row, told, find)


@router.get("/label/{merchant}/{recipe}/row")
async def another_row(visit: Visits, merchant: str, recipe: str, row: str = "", find: str = "") -> Response:
    """A row alone, as when something else is searched for it."""
    desk = await visit.gateway.threads.run_files(merchant, _desk, visit, merchant, recipe)
    return await visit.gateway.threads.run_files(merchant, _page, visit, desk, "label_work.html", row, "", find)


@router.post("/label/{merchant}/{recipe}/answer")
async def answer(
    visit: Visits, merchant: str, recipe: str, row: Text, label: Text = "", score: Text = "", word: Mark = ""
) -> Response:
    """Give a row its label, or say that none fits, or skip it."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    told = await visit.gateway.threads.run_files(merchant, _answer, visit, desk, row, label or score, word)
    return await _on(visit, desk, told, row)


@router.post("/label/{merchant}/{recipe}/undo")
async def undo(visit: Visits, merchant: str, recipe: str) -> Response:
    """Take the last word of this person back."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    taken = await visit.gateway.threads.run_files(merchant, _undo, visit, desk)
    return await _on(visit, desk, "undone" if taken else "nothing", taken.row if taken else "", stay=True)


@router.post("/label/{merchant}/{recipe}/again")
async def again(visit: Visits, merchant: str, recipe: str) -> Response:
    """Ask this person once more about the rows that were skipped."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    await visit.gateway.threads.run_files(merchant, _unskip, visit, desk)
    return await _on(visit, desk, "again", "")


@router.post("/label/{merchant}/{recipe}/rows")
async def rows(visit: Visits, merchant: str, recipe: str, typed: Text = "", file: UploadFile | None = None) -> Response:
    """Bring rows to be labelled."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    name, content = (file.filename, await file.read()) if file is not None and file.filename else ("", typed.encode())
    queues, kept = visit.gateway.labels, await visit.gateway.threads.run_files(merchant, desk.kept)
    added, there = await visit.gateway.threads.run_long(
        merchant, lambda: queues.bring(kept, desk.recipe, name or "", content)
    )
    return visit.to(desk.place, told="brought", added=str(added), there=str(there))


@router.get("/label/{merchant}/{recipe}/order")
async def order(visit: Visits, merchant: str, recipe: str) -> Response:
    """How far the order of the rows is."""
    desk = await visit.gateway.threads.run_files(merchant, _desk, visit, merchant, recipe)
    return await visit.gateway.threads.run_files(merchant, lambda: visit.page("label_order.html", **_runs(visit, desk)))


@router.get("/label/{merchant}/{recipe}/curve")
async def curve(visit: Visits, merchant: str, recipe: str) -> Response:
    """How far the learning curve is."""
    desk = await visit.gateway.threads.run_files(merchant, _desk, visit, merchant, recipe)
    return await visit.gateway.threads.run_files(merchant, lambda: visit.page("label_curve.html", **_runs(visit, desk)))


@router.get("/label/{merchant}/{recipe}/start/{job}")
async def confirm(visit: Visits, merchant: str, recipe: str, job: Literal["adapter", "curve"]) -> Response:
    """Say what a run will do, before it is queued."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    state = await visit.gateway.threads.run_files(merchant, _state, visit, desk)
    part = "label_start_part.html" if "hx-request" in visit.request.headers else "label_start.html"
    return visit.page(part, desk=desk, job=job, examples=len(state.examples))


@router.post("/label/{merchant}/{recipe}/start/{job}")
async def start(visit: Visits, merchant: str, recipe: str, job: Literal["adapter", "curve", "label-next"]) -> Response:
    """Queue a run, unless one like it is under way."""
    desk = await visit.gateway.threads.run_files(merchant, _writing, visit, merchant, recipe)
    run = await visit.gateway.threads.run_files(merchant, _start, visit, desk, job)
    await visit.gateway.runs.wake()
    return visit.to(f"/console/runs/{merchant}/{run.id}" if job == "adapter" else desk.place)


async def _on(visit: Visit, desk: Desk, told: str, row: str, *, stay: bool = False) -> Response:
    """Go on to the next row; or stay at one."""
    if "hx-request" not in visit.request.headers:
        return visit.to(desk.place, told=told, row=row)
    response = await visit.gateway.threads.run_files(desk.name, _page, visit, desk, "label_work.html", row, told, "")
    response.headers["hx-replace-url"] = f"{desk.place}?{query_of({'row': row})}" if stay and row else desk.place
    return response


def _desk(visit: Visit, merchant: str, recipe: str) -> Desk:
    desk = desk_of(visit, merchant, recipe)
    check_not_written(desk.recipe)
    return desk


def _writing(visit: Visit, merchant: str, recipe: str) -> Desk:
    desk = _desk(visit, merchant, recipe)
    visit.check("publish", merchant)
    return desk


def _state(visit: Visit, desk: Desk) -> Labeling:
    if desk.merchant is None:
        return Labeling({}, (), ())
    return visit.gateway.labels.labeling(desk.merchant, desk.recipe)


def _answer(visit: Visit, desk: Desk, row: str, value: str, word: Literal["", "none", "skip"]) -> str:
    """Keep what was said of a row; what is to be told of it."""
    kept = desk.kept()
    with labeling.held(kept):
        state = visit.gateway.labels.labeling(kept, desk.recipe)
        if row not in state.rows:
            return "gone"
        answer = None if word else answer_of(desk.recipe, state, state.rows[row], value, _catalogs(visit, kept, desk))
        if (before := state.answered(row)) is not None:
            return "same" if _alike(before, answer, word) else "taken"
        if word:
            labeling.mark(kept, desk.recipe, row, word, visit.actor)
            return word
        labeling.give(kept, desk.recipe, state, row, answer, visit.actor)
    return "label"


def _alike(before: Said, answer: Any, word: str) -> bool:
    return before.word == "none" if word else before.word == "label" and before.answer == answer


def _undo(visit: Visit, desk: Desk) -> Said | None:
    kept = desk.kept()
    with labeling.held(kept):
        last = visit.gateway.labels.labeling(kept, desk.recipe).last(visit.actor)
        return last if last is not None and labeling.undo(kept, desk.recipe, last) else None


def _unskip(visit: Visit, desk: Desk) -> None:
    kept = desk.kept()
    with labeling.held(kept):
        for one in visit.gateway.labels.labeling(kept, desk.recipe).marks:
            if one.word == "skip" and one.by == visit.actor:
                labeling.undo(kept, desk.recipe, one)


def _start(visit: Visit, desk: Desk, job: Job) -> Run:
    if not desk.shipped:
        raise BadForm(
            f"{desk.recipe.name} is not a shipped recipe, so this server has no file of it to run",
            next_step=f"run `shopfit {job} {desk.name} {desk.recipe.name}.yaml` where that file is",
        )
    newest = next(iter(desk.runs(job)), None)
    if newest is not None and newest.state() not in OVER:
        return newest
    return visit.queue(job, desk.name, desk.recipe.name, desk.arguments(job))


def _catalogs(visit: Visit, merchant: Merchant | None, desk: Desk) -> Catalogs:
    return Catalogs(None, None) if merchant is None else visit.gateway.labels.catalogs(merchant, desk.recipe)


def _page(visit: Visit, desk: Desk, template: str, row: str, told: str, find: str) -> Response:
    """The queue, or its part with the row."""
    queues, recipe = visit.gateway.labels, desk.recipe
    state, catalogs = _state(visit, desk), _catalogs(visit, desk.merchant, desk)
    proposals = proposals_of(desk, queues) if desk.merchant is not None else Proposals(None, (), {})
    turn = state.turn(visit.actor, proposals.order)
    key = row if row in turn else next(iter(turn), "")
    shown = None
    if key:
        index = queues.index(desk.merchant, recipe) if desk.merchant is not None and recipe.spec.items else None
        proposal = proposals.told.get(key, {})
        shown = {
            "key": key,
            "fields": fields_of(recipe, state.rows[key], catalogs),
            "choices": choices_of(recipe, state, state.rows[key], proposal, index, catalogs, find),
            "why": proposal.get("why", ""),
        }
    counts = state.counts
    names = labels_of(recipe, state) if recipe.spec.single_label else []
    return visit.page(
        template,
        recipe=recipe,
        row=shown,
        find=find,
        part="hx-request" in visit.request.headers,
        told=_told(visit, state, row, told, catalogs),
        waiting=len(turn),
        any=bool(state.rows),
        ordered=sum(one in proposals.told for one in turn),
        labelled=len(state.examples),
        sitting=state.sitting(visit.actor),
        counts=[(name, counts[name]) for name in names] or _counts(counts, recipe.spec.items),
        largest=max(counts.values(), default=0),
        skipped=len(state.skipped(visit.actor)),
        unfit=[fields_of(recipe, state.rows[one], catalogs) for one in state.unfit[-20:]],
        unfit_count=len(state.unfit),
        marks_file=labeling.marks_file(recipe),
        many=shown is not None and len(shown["choices"]) > _MANY,
        limits=bounds(recipe, state) if recipe.spec.kind == "number" else None,
        can_undo=state.last(visit.actor) is not None,
        **_runs(visit, desk),
    )


def _counts(counts: Counter[str], items: bool) -> list[tuple[str, int]]:
    """Examples of each score; of items there are too many to tell."""
    return [] if items else sorted(counts.items())


def _told(visit: Visit, state: Labeling, row: str, told: str, catalogs: Catalogs) -> dict[str, Any] | None:
    """What is said of the last thing that was done."""
    if told not in _TOLD:
        return None
    query = visit.request.query_params
    said = state.answered(row)
    facts: dict[str, Any] = {"kind": told, "answer": "", "by": "" if said is None else said.by}
    if said is not None and said.word == "label":
        answers = said.answer if isinstance(said.answer, list) else [said.answer]
        facts["answer"] = ", ".join(title_of(catalogs.ranked, str(one)) for one in answers)
    for name in ("added", "there"):
        facts[name] = query.get(name, "0") if query.get(name, "0").isdecimal() else "0"
    return facts


def _runs(visit: Visit, desk: Desk) -> dict[str, Any]:
    """How far the runs of this page are."""
    facts: dict[str, Any] = {"desk": desk, "may": visit.grant.allows("publish", desk.name), "now": datetime.now(UTC)}
    for name, job in (("order", "label-next"), ("curve", "curve"), ("training", "adapter")):
        runs = desk.runs(job)  # type: ignore[arg-type]
        newest = runs[0] if runs else None
        state = newest.state() if newest is not None else ""
        error = ""
        if newest is not None and state == "failed":
            error = str(next((one.facts.get("message") for one in reversed(newest.events) if one.kind == "failed"), ""))
        facts[name] = {
            "run": newest,
            "state": state,
            "under_way": newest is not None and state not in OVER,
            "error": error,
        }
        done = next((run for run in runs if run.state() == "done"), None)
        facts[name]["done"] = done
    facts["measured"] = _measured(visit, facts["curve"]["done"])
    return facts


def _measured(visit: Visit, run: Run | None) -> dict[str, Any] | None:
    """A learning curve as a chart and a table: the adapter, and what it is compared with."""
    found = None if run is None else run.result
    if not isinstance(found, dict) or not found.get("points"):
        return None
    points = found["points"]
    names = list(dict.fromkeys((one["name"], one["kind"]) for point in points for one in point["systems"]))
    names.sort(key=lambda pair: pair[1] != "adapter")
    series = []
    for name, _ in names:
        means = [next((one["mean"] for one in point["systems"] if one["name"] == name), None) for point in points]
        series.append({"name": name, "values": means})
    x = [point["shots"] for point in points]
    chart = as_data({"x": x, "series": series, "x_name": visit.t("label.examples")})
    return {"x": x, "series": series, "metric": found["metric"], "advice": found["advice"], "chart": chart}
