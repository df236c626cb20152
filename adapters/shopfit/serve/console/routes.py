"""What pages share: routes whose errors are pages, who is there, and forms that carry the session's token."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from shopfit.errors import Problem, RequestError, ShopfitError, UnknownReference
from shopfit.registry import Grant
from shopfit.registry.grant import Scope
from shopfit.serve.authentication import check_scope
from shopfit.serve.console import session
from shopfit.serve.console.rendering import failure_page, render, wording_of
from shopfit.serve.console.wording import Wording
from shopfit.serve.endpoints.asking import Asking
from shopfit.serve.gateway import Gateway

logger = logging.getLogger(__name__)


class _PageRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler; what goes wrong becomes a page."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            try:
                return await handle(request)
            except ShopfitError as error:
                return failure_page(request, error)
            except RequestValidationError as error:
                wrong = [Problem(".".join(map(str, one["loc"][1:])), one["msg"]) for one in error.errors()]
                return failure_page(request, BadForm("this form is not filled in as it should be", problems=wrong))
            except HTTPException as error:
                return failure_page(request, NoPage(str(error.detail), next_step="go back to the start"))
            except Exception as error:
                logger.exception("the page %s could not be shown", request.url.path)
                ours = ShopfitError(
                    f"this page could not be shown: {type(error).__name__}",
                    next_step="other pages go on; please report this one if it comes again",
                )
                return failure_page(request, ours)

        return handle_page


class BadForm(RequestError):  # noqa: N818 - reads as what it is
    """A form that cannot be taken as it is."""


class NoPage(UnknownReference):
    """There is no such page."""


def page_router() -> APIRouter:
    """A router of pages."""
    return APIRouter(prefix="/console", route_class=_PageRoute, include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in.

    Args:
        request: as it came.
        gateway: that answers.
        grant: what the key may do.
    """

    request: Request
    gateway: Gateway
    grant: Grant

    @property
    def t(self) -> Wording:
        """Messages in the reader's language."""
        return wording_of(self.request)

    @property
    def home(self) -> Path:
        """SHOPFIT_HOME."""
        return self.gateway.settings.home

    @property
    def actor(self) -> str:
        """Who does something, for the audit: the key's public id."""
        return f"key {self.grant.key}"

    @property
    def asking(self) -> Asking:
        """The same request as endpoints take it."""
        return Asking(self.gateway, self.grant, "")

    def check(self, scope: Scope, merchant: str | None) -> None:
        """Make sure that the key may do something with a merchant's data; None for the platform's."""
        check_scope(self.grant, scope, merchant)

    def sees(self, merchant: str) -> None:
        """Make sure that a merchant's pages may be seen. Whether another one exists makes no difference.

        Raises:
            NoPage: if the key is another merchant's.
        """
        if self.grant.merchant not in (None, merchant):
            raise NoPage("there is no such page, or not for this key", next_step="go back to the start")

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """A page, or a part of one; see `render`."""
        return render(self.request, template, **values)

    def to(self, place: str, **query: str) -> Response:
        """Go on to another page, as after a change."""
        place += f"?{urlencode(query, quote_via=quote)}" if query else ""
        if "hx-request" in self.request.headers:
            return Response(headers={"hx-redirect": place})
        return RedirectResponse(place, 303)


async def _visit(request: Request) -> Visit:
    """Who is there; a change must carry the session's token, in its form or in a header."""
    if request.method not in ("GET", "HEAD"):
        sent = request.headers.get("x-csrf-token") or str((await request.form()).get("csrf", ""))
        session.check_csrf(request, sent)
    return Visit(request, request.app.state.gateway, request.state.grant)


Visits = Annotated[Visit, Depends(_visit)]


def query_of(values: Mapping[str, Any]) -> str:
    """A query string of those values that say something."""
    return urlencode({name: value for name, value in values.items() if value not in ("", None)}, quote_via=quote)
