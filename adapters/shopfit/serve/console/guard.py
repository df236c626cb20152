"""Pure ASGI middleware before the console's pages: who is there, and whether a change comes from one of them."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shopfit.errors import KeyRefused, ShopfitError
from shopfit.serve.console import session
from shopfit.serve.console.rendering import failure_page
from shopfit.serve.middleware import App, Receive, Scope, Send

if TYPE_CHECKING:
    from shopfit.serve.gateway import Gateway

_OPEN = ("/console/assets/", "/console/sign-in", "/console/sign-out", "/console/language/")


class ConsoleGuard:
    """Lets whoever is signed in to the console's pages, which are counted; what is asked there counts as over HTTP.

    Args:
        app: that answers.
        gateway: that knows keys and limits.
    """

    def __init__(self, app: App, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI."""
        if scope["type"] != "http" or not is_console(scope["path"]):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        try:
            session.check_origin(request)
            if not scope["path"].startswith(_OPEN):
                request.state.failure = partial(_failure, request)
                request.state.grant = await self._gateway.visit(request, session.token_of(request))
        except KeyRefused as error:
            await _to_sign_in(request, error)(scope, receive, send)
            return
        except ShopfitError as error:
            await failure_page(request, error)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _failure(request: Request, error: ShopfitError, headers: Mapping[str, str]) -> Response:
    """What is said before a page is reached, such as of a body that is too large."""
    response = failure_page(request, error)
    response.headers.update(headers)
    return response


def is_console(path: str) -> bool:
    """Whether a path is of the console."""
    return path == session.HOME or path.startswith(f"{session.HOME}/")


def _to_sign_in(request: Request, error: KeyRefused) -> Response:
    if not session.token_of(request) and error.message.startswith("without keys"):
        return failure_page(request, error)
    back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    place = f"/console/sign-in?next={quote(back if request.method == 'GET' else session.HOME)}"
    if "hx-request" in request.headers:
        return Response(headers={"hx-redirect": place})
    return RedirectResponse(place, 303)
