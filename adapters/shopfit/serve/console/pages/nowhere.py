"""What is no page of the console; the last of all routes."""

from starlette.responses import RedirectResponse, Response

from shopfit.serve.console.routes import NoPage, Visits, page_router

router = page_router()


@router.get("/{path:path}")
async def nowhere(visit: Visits, path: str) -> Response:
    """The start with a slash behind it, or nothing."""
    del visit
    if not path:
        return RedirectResponse("/console")
    raise NoPage("there is no such page", next_step="go back to the start")
