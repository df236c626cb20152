"""Fleet: every adapter in a row, those that need attention first."""

from starlette.responses import Response

from shopfit.runs import all_runs
from shopfit.serve.console.fleet_table import ATTENTION
from shopfit.serve.console.routes import Paged, Visits, page_router, query_of

router = page_router()


@router.get("")
async def fleet(visit: Visits, q: str = "", recipe: str = "", state: str = "", page: int = 1) -> Response:
    """The fleet, as the filters in the address say."""
    gateway, own = visit.gateway, visit.grant.merchant
    threads, table = gateway.threads, gateway.fleet
    rows = await threads.run(table.rows, own, search=q, recipe=recipe, state=state)
    everything = rows if not (q or recipe or state) else await threads.run(table.rows, own)
    counts = {name: sum(name in row.attention for row in everything) for name in ATTENTION}
    paged = Paged(rows, page)
    filters = {"q": q, "recipe": recipe, "state": state}
    return visit.page(
        "fleet.html",
        rows=paged.rows,
        **paged.place,
        filters=filters,
        counts=counts,
        good=sum(not row.attention for row in everything),
        merchants=len({row.adapter.merchant for row in everything}),
        adapters=len(everything),
        recipes=sorted({row.adapter.recipe for row in everything}),
        attentions=ATTENTION,
        query=lambda **more: query_of(filters | more),
        running=await threads.run(lambda: _under_way(visit)),
    )


def _under_way(visit: Visits) -> int:
    """Runs that are going on or wait."""
    recent = all_runs(visit.home, visit.grant.merchant)[:200]
    return sum(run.state() in ("running", "queued") for run in recent)
