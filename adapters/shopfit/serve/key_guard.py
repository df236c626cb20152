"""Pure ASGI middleware: no key, no body. Only paths that are named here are answered without a key."""

from typing import TYPE_CHECKING

from starlette.requests import Request

from shopfit.errors import ShopfitError
from shopfit.serve.failures import error_response
from shopfit.serve.middleware import App, Receive, Scope, Send

if TYPE_CHECKING:
    from shopfit.serve.authentication import Authentication

OPEN = frozenset({"/health", "/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json", "/metrics"})
"""Paths that need no key; metrics have rules of their own."""


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
        await self._app(scope, receive, send)
