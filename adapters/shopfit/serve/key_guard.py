"""Pure ASGI middleware: no key, no body. Only paths that are named here are answered without a key."""

from typing import TYPE_CHECKING

from starlette.requests import Request

from shopfit.errors import ShopfitError
from shopfit.serve.endpoints import docs
from shopfit.serve.failures import error_response
from shopfit.serve.middleware import App, Receive, Scope, Send

if TYPE_CHECKING:
    from shopfit.serve.authentication import Authentication

OPEN = frozenset({"/health", "/ready", "/openapi.json", docs.PAGE, *docs.FILES})
"""Paths that need no key: they tell nothing of a merchant."""

_FORM = "application/x-www-form-urlencoded"


class KeyGuard:
    """Checks the key of a request before anything of its body is read, and whatever route it is for.

    What the key may do is left in the request's state, as `grant`.

    Args:
        app: that answers.
        authentication: that checks keys.
    """

    def __init__(self, app: App, authentication: "Authentication") -> None:
        self._app = app
        self._authentication = authentication

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI."""
        if scope["type"] == "http" and scope["path"] not in OPEN:
            request = Request(scope)
            try:
                request.state.grant = await self._authentication.grant(request)
            except ShopfitError as error:
                await error_response(error, {"connection": "close"})(scope, receive, send)
                return
            _take_as_json(scope, request)
        await self._app(scope, receive, send)


def _take_as_json(scope: Scope, request: Request) -> None:
    """What curl sends with `-d` is JSON here, though curl says it is a form.

    A form in a browser cannot send the header with the key, so that no page can have one sent for its visitor.
    """
    if "authorization" in request.headers and request.headers.get("content-type", "").startswith(_FORM):
        kept = [(name, value) for name, value in scope["headers"] if name != b"content-type"]
        scope["headers"] = [*kept, (b"content-type", b"application/json")]
