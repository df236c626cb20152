"""What pages share: routes whose errors are pages, who is there, and forms that carry the session's token."""

import logging
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar
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
from shopfit.runs import Job, Run, create_run, enqueue
from shopfit.serve.authentication import NO_KEY, check_scope
from shopfit.serve.console import session
from shopfit.serve.console.registry_table import shown_to
from shopfit.serve.console.rendering import failure_page, render, wording_of
from shopfit.serve.console.wording import Wording
from shopfit.serve.endpoints.asking import Asking
from shopfit.serve.gateway import Gateway

logger = logging.getLogger(__name__)

ROWS = 50
"""Rows of a page."""
T = TypeVar("T")

_TOO_LONG = "exceeded maximum size"  # what Starlette says of a field of a form
_PLACES = re.compile(r"(?<![\w/.:-])(?:/[\w.+@~-]+){2,}/([\w.+@~-]+)")  # whole paths, and their last part


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
                return failure_page(request, _of_framework(request, error))
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

    cure = "Correct the fields that are named, and send the form again."


class NoPage(UnknownReference):
    """There is no such page."""

    cure = "Go back to the console's start. A key of a merchant sees that merchant's pages alone."


def _of_framework(request: Request, error: HTTPException) -> ShopfitError:
    """What FastAPI refused, of its own status."""
    if _TOO_LONG in str(error.detail):
        t = wording_of(request)
        long = BadForm(t("frame.too_long"), next_step=t("frame.too_long_next"))
        long.http_status = 413  # type: ignore[misc]
        return long
    refused = NoPage(str(error.detail), next_step="go back to the start")
    refused.http_status = error.status_code  # type: ignore[misc]
    return refused


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

    def told(self, text: str) -> str:
        """A text that shopfit wrote, for the key: a merchant reads no other's name, and no place of the server."""
        if self.grant.merchant is None:
            return text
        return _PLACES.sub(r"\1", shown_to(text, self.grant.merchant, self.t("registry.another")))

    def who(self, actor: str) -> str:
        """Who did something, for the key: a merchant reads its own key's id, and no name of the platform's people."""
        if actor == f"key {NO_KEY}":
            return self.t("frame.without_key")
        if self.grant.merchant is None or actor == self.actor:
            return actor
        return self.t("frame.another_key" if actor.startswith("key ") else "frame.the_platform")

    def queue(self, job: Job, merchant: str, recipe: str, arguments: Sequence[str]) -> Run:
        """A new run that waits for its turn; it may do what the key may."""
        promotes = self.grant.allows("promote", merchant)
        run = create_run(self.home, job, merchant, recipe, arguments, actor=self.actor, promotes=promotes)
        enqueue(self.home, run, by=self.actor)
        return run

    def reads(self, merchant: str | None) -> None:
        """Make sure that a merchant's rows, runs and history may be read: not by a key that only asks or tells.

        Args:
            merchant: whose; None for those of all that the key reaches.

        Raises:
            NoPage: if the key is another merchant's.
            ScopeMissing: if it is for asking alone.
        """
        merchant = self.grant.merchant if merchant is None else merchant
        if merchant is not None:
            self.sees(merchant)
        if not self.grant.allows("promote", merchant):
            self.check("publish", merchant)

    def sees(self, merchant: str) -> None:
        """Make sure that a merchant's pages may be seen. Whether another one exists makes no difference.

        Raises:
            NoPage: if the key is another merchant's.
        """
        if self.grant.merchant not in (None, merchant):
            raise NoPage("there is no such page, or not for this key", next_step="go back to the start")

    def page(self, template: str, **values: Any) -> HTMLResponse:
        """A page, or a part of one; see `render`."""
        return render(self.request, template, **{"who": self.who, "told": self.told} | values)

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


class Paged(Generic[T]):
    """A page of a list.

    Args:
        found: all of it.
        page: that is asked for; the nearest there is.
    """

    def __init__(self, found: Sequence[T], page: int) -> None:
        last = max(1, -(-len(found) // ROWS))
        number = min(max(1, page), last)
        start = (number - 1) * ROWS
        self.rows = found[start : start + ROWS]
        self.place = {"total": len(found), "first": start + 1, "number": number, "last": last}
        """What `pager` in pieces.html is told."""


def query_of(values: Mapping[str, Any]) -> str:
    """A query string of those values that say something."""
    return urlencode({name: value for name, value in values.items() if value not in ("", None)}, quote_via=quote)
