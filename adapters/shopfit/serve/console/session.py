"""Who is at the console: the API key in the session's cookie, and the token that every change must carry.

The cookie is for this server and its pages alone: no script reads it (HttpOnly), no other site's page sends it
(SameSite=Strict), and it goes when the browser is closed. Nothing is kept on the server, so that a restart or a second
gateway asks for no other sign-in, and a key that is revoked is refused within a second, as everywhere.
"""

import hashlib
import hmac

from starlette.requests import Request
from starlette.responses import Response

from shopfit.errors import ShopfitError
from shopfit.serve.authentication import is_loopback_name

COOKIE = "shopfit_console"
LANGUAGE = "shopfit_language"
HOME = "/console"
_SAFE = frozenset({"GET", "HEAD"})


class Forged(ShopfitError):  # noqa: N818 - reads as what it is
    """A change that did not come from a page of this console."""

    http_status = 403
    cure = "Open the console, and do it there."


def token_of(request: Request) -> str:
    """The API key of a session; empty without."""
    return request.cookies.get(COOKIE, "")


def csrf_of(request: Request) -> str:
    """The token that a page of this session puts into what it sends; nothing follows from it about the key."""
    return hmac.new(
        request.app.state.gateway.secret, b"console " + token_of(request).encode(), hashlib.sha256
    ).hexdigest()


def check_origin(request: Request) -> None:
    """Make sure that a change was sent by a page of this server.

    Raises:
        Forged: if another site's page sent it, or it does not say.
    """
    if request.method in _SAFE:
        return
    origin, site = request.headers.get("origin", ""), request.headers.get("sec-fetch-site", "same-origin")
    host = request.headers.get("host", "")
    if site != "same-origin" or origin.partition("://")[2] != host:
        raise Forged("this change was not sent by a page of this console", next_step="open the console and do it there")


def check_csrf(request: Request, sent: str) -> None:
    """Make sure that a change carries the session's token.

    Raises:
        Forged: if it does not, as after signing in with another key in another window.
    """
    if not hmac.compare_digest(sent.encode(), csrf_of(request).encode()):
        raise Forged("this page is of an earlier session", next_step="load it again, then do it once more")


def begin(response: Response, request: Request, token: str) -> None:
    """Keep a key in the browser. It is sent back over https alone, unless the server is on the same machine."""
    secure = not is_loopback_name(request.url.hostname or "")
    response.set_cookie(COOKIE, token, path=HOME, httponly=True, samesite="strict", secure=secure)


def end(response: Response) -> None:
    """Forget the key."""
    response.delete_cookie(COOKIE, path=HOME)


def local(place: str) -> str:
    """A place of the console that may be gone to; its start for any other."""
    return place if place == HOME or place.startswith((f"{HOME}/", f"{HOME}?")) else HOME
