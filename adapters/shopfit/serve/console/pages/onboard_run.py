"""Onboard, the second half: what training would cost, its start, and the run as it goes on."""

from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.responses import Response

from shopfit.errors import ShopfitError
from shopfit.runs import Job, Run, all_runs, find_run
from shopfit.serve.console.onboarding import arguments_of, ready, without_paths
from shopfit.serve.console.pages.onboard import Place, part_of, place_of
from shopfit.serve.console.routes import NoPage, Visit, Visits, page_router
from shopfit.serve.console.run_progress import newest_run, progress_of

router = page_router()


class NotReady(ShopfitError):  # noqa: N818 - reads as what it is
    """Something is missing before a run can start."""

    http_status = 422
    cure = "Bring the files that are named first."


@router.get("/onboard/{merchant}/{recipe}/plan")
async def plan(visit: Visits, merchant: str, recipe: str) -> Response:
    """A part of the page: the newest plan, unless the data are newer."""
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    threads = visit.gateway.threads

    def newest() -> Run | None:
        run = newest_run(visit.home, merchant, recipe, "plan")
        data = place.merchant.folder / place.recipe.data.file
        if run is None or not data.exists():
            return run
        asked, written = datetime.fromisoformat(run.asked.at), datetime.fromtimestamp(data.stat().st_mtime, UTC)
        return None if asked < written else run

    return _plan_part(visit, await threads.run_files(merchant, newest), merchant, recipe)


@router.post("/onboard/{merchant}/{recipe}/plan")
async def ask_plan(visit: Visits, merchant: str, recipe: str) -> Response:
    """Have a plan measured."""
    run = await _begun(visit, "plan", merchant, recipe)
    if isinstance(run, Response):
        return run
    if "hx-request" in visit.request.headers:
        return _plan_part(visit, run, merchant, recipe)
    return visit.to(f"/console/onboard/{merchant}/{recipe}")


@router.post("/onboard/{merchant}/{recipe}/start")
async def start(visit: Visits, merchant: str, recipe: str) -> Response:
    """Let a run wait for its turn."""
    run = await _begun(visit, "adapter", merchant, recipe)
    if isinstance(run, Response):
        return run
    if "hx-request" in visit.request.headers:
        return await _shown(visit, run, "onboard_live.html")
    return visit.to(f"/console/onboard/{merchant}/{recipe}")


@router.get("/onboard/{merchant}/{recipe}/live")
async def live(visit: Visits, merchant: str, recipe: str) -> Response:
    """A part of the page: the newest run, and what may be asked of it."""
    visit.reads(merchant)
    run = await visit.gateway.threads.run_files(merchant, newest_run, visit.home, merchant, recipe, "adapter")
    if run is None:
        return part_of(visit, "onboard_live.html", merchant, recipe, run=None)
    return await _shown(visit, run, "onboard_live.html")


@router.get("/onboard/{merchant}/{recipe}/steps")
async def steps(visit: Visits, merchant: str, recipe: str, run: str) -> Response:
    """A part of the page: how far a run has come. It asks for itself again until the run is over."""
    return await _shown(visit, await _run_of(visit, merchant, recipe, run), "onboard_steps.html")


@router.get("/onboard/{merchant}/{recipe}/answer")
async def answer(visit: Visits, merchant: str, recipe: str, run: str) -> Response:
    """A part of the page: what may be asked of a run's first version, as soon as that is there."""
    return await _shown(visit, await _run_of(visit, merchant, recipe, run), "onboard_answer.html")


async def _shown(visit: Visit, run: Run, template: str) -> Response:
    progress = await visit.gateway.threads.run_files(run.asked.merchant, progress_of, visit.home, run)
    failed = progress.failed
    return part_of(
        visit,
        template,
        run.asked.merchant,
        run.asked.recipe,
        run=run,
        progress=progress,
        failed="" if failed is None else without_paths(str(failed.get("message", "")), visit.home),
        problems=[] if failed is None else [_worded(visit, one) for one in failed.get("problems", [])],
    )


def _plan_part(visit: Visit, run: Run | None, merchant: str, recipe: str) -> Response:
    state = None if run is None else run.state()
    result = None if run is None or state != "done" else run.result
    failed = {} if run is None else next((one.facts for one in reversed(run.events) if one.kind == "failed"), {})
    return part_of(
        visit,
        "onboard_plan.html",
        merchant,
        recipe,
        run=run,
        state=state,
        plan=result,
        failed=without_paths(str(failed.get("message", "")), visit.home),
        problems=[_worded(visit, one) for one in failed.get("problems", [])],
    )


def _worded(visit: Visit, problem: dict[str, str]) -> str:
    said = f"{problem.get('where', '')}: {problem.get('what', '')}"
    allowed = problem.get("allowed", "")
    return without_paths(said + (f" ({allowed})" if allowed else ""), visit.home)


async def _begun(visit: Visit, job: Job, merchant: str, recipe: str) -> Run | Response:
    """A run that waits for its turn, or is under way already for the same.

    Raises:
        NotReady: if something is missing.
    """
    place = await place_of(visit, merchant, recipe)
    if isinstance(place, Response):
        return place
    visit.check("publish", merchant)
    if not ready(place.files):
        missing = [file.name for file in place.files if file.needed and not file.rows]
        raise NotReady(f"{merchant} has no {', '.join(missing)} yet", next_step="bring that first")
    form = {name: str(value) for name, value in (await visit.request.form()).items()}

    def queued() -> Run:
        arguments = arguments_of(form, place.merchant, place.recipe)
        if job == "plan":
            arguments = [one for one in arguments if one != "--instant"]
        return _equal(visit, job, place, arguments) or visit.queue(job, merchant, recipe, arguments)

    run = await visit.gateway.threads.run_files(merchant, queued)
    await visit.gateway.runs.wake()
    return run


def _equal(visit: Visit, job: Job, place: Place, arguments: Sequence[str]) -> Run | None:
    """The run that would do the same: it waits, or is under way with the rows that are there now."""
    merchant, recipe = place.merchant, place.recipe.name
    paths = [merchant.folder / file.name for file in place.files]
    changed = max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)
    for run in all_runs(visit.home, merchant.name):
        asked, state = run.asked, run.state()
        same = (asked.job, asked.recipe, asked.arguments) == (job, recipe, tuple(arguments))
        if not same or asked.promotes != visit.grant.allows("promote", merchant.name):
            continue
        if state == "queued" or (state == "running" and _started(run) >= changed):
            return run
    return None


def _started(run: Run) -> float:
    return max((one.at.timestamp() for one in run.events if one.kind == "started"), default=0.0)


async def _run_of(visit: Visit, merchant: str, recipe: str, id_: str) -> Run:
    visit.reads(merchant)
    run = await visit.gateway.threads.run_files(merchant, find_run, visit.home, merchant, id_)
    if (run.asked.job, run.asked.recipe) != ("adapter", recipe):
        raise NoPage("there is no such run here", next_step="see all runs")
    return run
