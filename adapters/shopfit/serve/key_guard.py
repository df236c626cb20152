"""Pure ASGI middleware: no key, no body. Only paths that are named here are answered without a key."""

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from starlette.requests import Request

from shopfit.errors import LimitExceeded, ShopfitError
from shopfit.serve.console.guard import is_console
from shopfit.serve.endpoints import docs
from shopfit.serve.failures import error_response
from shopfit.serve.middleware import MOST_BODY, App, Receive, Scope, Send

if TYPE_CHECKING:
    from shopfit.serve.gateway import Gateway

OPEN = frozenset({"/health", "/ready", "/openapi.json", docs.PAGE, *docs.FILES})
"""Paths that need no key: they tell nothing of a merchant."""

_FORM = "application/x-www-form-urlencoded"


class KeyGuard:
    """Checks the key and the rates of a request before anything of its body is read, and whatever route it is for.

    What the key may do is left in the request's state, as `grant`. The request is under way until it is answered.

    Args:
        app: that answers.
        gateway: that knows keys and limits.
    """

    def __init__(self, app: App, gateway: "Gateway") -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI."""
        async with AsyncExitStack() as held:
            # `ConsoleGuard` has let those in who are signed in
            if scope["type"] == "http" and scope["path"] not in OPEN and not is_console(scope["path"]):
                request = Request(scope)
                try:
                    request.state.grant = await self._gateway.enter(request, held)
                except ShopfitError as error:
                    await error_response(error, _after(error, request))(scope, receive, send)
                    return
                _take_as_json(scope, request)
            await self._app(scope, receive, send)


def _after(error: ShopfitError, request: Request) -> dict[str, str]:
    """What becomes of the connection: who comes too often comes again, and a body of usual size is passed over."""
    length = request.headers.get("content-length", "0")
    short = "transfer-encoding" not in request.headers and length.isdecimal() and int(length) <= MOST_BODY
    return {} if isinstance(error, LimitExceeded) and short else {"connection": "close"}


def _take_as_json(scope: Scope, request: Request) -> None:
    """What curl sends with `-d` is JSON here, though curl says it is a form.

    A form in a browser cannot send the header with the key, so that no page can have one sent for its visitor.
    """
    if "authorization" in request.headers and request.headers.get("content-type", "").startswith(_FORM):
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
