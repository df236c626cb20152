"""Runs: the queue and what was done, and a run with its curves, its stages and its log, live."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

from fastapi import Form
from starlette.responses import PlainTextResponse, Response

from shopfit.errors import RequestError
from shopfit.runs import LANES, Run, all_runs, enqueue, find_run, lane_of, waiting, withdraw
from shopfit.serve.console.rendering import HEADERS
from shopfit.serve.console.routes import Paged, Visits, page_router, query_of
from shopfit.serve.console.run_view import RunView, view_of

router = page_router()

_TAIL = 20_000  # characters of a log that a page shows


@router.get("/runs")
async def runs(visit: Visits, merchant: str = "", page: int = 1) -> Response:
    """What waits and what was done, the newest first."""
    visit.reads(merchant or None)
    threads, own = visit.gateway.threads, visit.grant.merchant or merchant or None
    found = await threads.run(all_runs, visit.home, own)
    paged = Paged(found, page)
    return visit.page(
        "runs.html",
        runs=await threads.run(_views, visit, paged.rows),
        merchant=merchant,
        **paged.place,
        query=lambda **more: query_of({"merchant": merchant} | more),
    )


@router.get("/runs/{merchant}/{run_id}")
async def run(visit: Visits, merchant: str, run_id: str) -> Response:
    """One run."""
    found, log = await visit.gateway.threads.run(lambda: _read(visit, merchant, run_id))
    return visit.page("run.html", run=found, log=log, may_change=visit.grant.allows("publish", merchant))


@router.get("/runs/{merchant}/{run_id}/now")
async def run_now(visit: Visits, merchant: str, run_id: str) -> Response:
    """What of its page changes as it goes on."""
    found, log = await visit.gateway.threads.run(lambda: _read(visit, merchant, run_id))
    return visit.page("run_now.html", run=found, log=log, may_change=visit.grant.allows("publish", merchant))


@router.get("/runs/{merchant}/{run_id}/log")
async def log(visit: Visits, merchant: str, run_id: str) -> Response:
    """All that its process printed."""
    found = await visit.gateway.threads.run(lambda: visit.told(_run(visit, merchant, run_id).log))
    return PlainTextResponse(found, headers=HEADERS | {"content-disposition": f'attachment; filename="{run_id}.txt"'})


@router.post("/runs/{merchant}/{run_id}/{change}")
async def change(visit: Visits, merchant: str, run_id: str, change: str, page: Annotated[str, Form()] = "") -> Response:
    """Stop it, have it keep its best weights, or have it go on."""
    del page
    visit.reads(merchant)
    visit.check("publish", merchant)
    done = await visit.gateway.threads.run(lambda: _change(visit, _run(visit, merchant, run_id), change))
    await visit.gateway.runs.wake()
    return visit.to(done)


def _change(visit: Visits, run: Run, change: str) -> str:
    state = run.state()
    if change == "resume" and state in ("stopped", "failed", "lost") and _may_go_on(visit, run):
        enqueue(visit.home, run, by=visit.actor, resume=True)
    elif change == "stop" and state == "running":
        run.interrupt()
    elif change == "keep-best" and state == "running" and run.asked.job == "adapter":
        run.keep_best()
    elif change == "withdraw" and state == "queued":
        withdraw(visit.home, run)
    else:
        raise NotNow(f"the run is {state} by now, and this cannot be done", next_step="load the page again")
    return f"/console/runs/{run.asked.merchant}/{run.id}"


def _may_go_on(visit: Visits, run: Run) -> bool:
    """Whether the key may have a run go on: what that may do, the key may do, and a shell's run is the platform's."""
    if run.asked.promotes and run.asked.job == "adapter":
        visit.check("promote", run.asked.merchant)
    if not run.asked.actor.startswith("key "):
        visit.check("admin", None)
    return all(one.run.id != run.id for one in waiting(visit.home, lane_of(run.asked.job)))


class NotNow(RequestError):  # noqa: N818 - reads as what it is
    """A run is no longer as it was when its page was loaded."""

    http_status = HTTPStatus.CONFLICT
    cure = "Load the page again."


def _run(visit: Visits, merchant: str, run_id: str) -> Run:
    visit.reads(merchant)
    return find_run(visit.home, merchant, run_id)


def _read(visit: Visits, merchant: str, run_id: str) -> tuple[RunView, str]:
    found = _run(visit, merchant, run_id)
    return _views(visit, [found])[0], visit.told(found.log[-_TAIL:])


def _views(visit: Visits, found: Sequence[Run]) -> list[RunView]:
    """Runs as the key may see them: to a merchant, how busy others keep the queue is not told."""
    queues = {} if visit.grant.merchant else {lane: [one.run.id for one in waiting(visit.home, lane)] for lane in LANES}
    return [view_of(run, visit.told, queues.get(lane_of(run.asked.job))) for run in found]
