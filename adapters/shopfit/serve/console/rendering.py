"""Pages as HTML: templates that escape whatever they show, the headers of every page, and errors as pages."""

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from shopfit.documents import document
from shopfit.errors import ShopfitError
from shopfit.registry import Grant
from shopfit.registry.grant import Scope
from shopfit.serve.authentication import NO_KEY
from shopfit.serve.console import session
from shopfit.serve.console.assets import address
from shopfit.serve.console.formats import FILTERS
from shopfit.serve.console.wording import LANGUAGES, Wording, language_of
from shopfit.serve.failures import for_clients

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy (W3C, level 3) of every page: nothing from elsewhere, and no script or style in a page."""

PAGES: Mapping[str, tuple[str, tuple[Scope, ...]]] = {
    "fleet": ("/console", ()),
    "onboard": ("/console/onboard", ("publish",)),
    "run": ("/console/runs", ("publish", "promote")),
    "compare": ("/console/compare", ("publish", "promote")),
    "label": ("/console/label", ("publish",)),
    "try": ("/console/try", ("infer",)),
    "serving": ("/console/serving", ()),
    "registry": ("/console/registry", ("publish", "promote")),
}
"""The menu: each page with its place, and the scopes of which a key needs one there; none if any key will do."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shopfit.serve.console"),
        autoescape=True,
        auto_reload=False,  # a server's pages are those of the release that it started with
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    environment.globals |= {"asset": address, "languages": LANGUAGES}
    return environment


def wording_of(request: Request) -> Wording:
    """Messages in the reader's language."""
    chosen = request.cookies.get(session.LANGUAGE, "")
    return Wording(language_of(chosen, request.headers.get("accept-language", "")))


def offered(grant: Grant | None) -> dict[str, str]:
    """Pages of the menu with their places: those where a key may do something.

    Args:
        grant: of the key; None if nobody is signed in.
    """
    return {
        name: place
        for name, (place, scopes) in PAGES.items()
        if grant is None or not scopes or any(grant.allows(scope, grant.merchant) for scope in scopes)
    }


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one.

    Args:
        request: that it answers.
        template: in `templates/`.
        status: of HTTP.
        values: that it shows; all of them are escaped.
    """
    t = wording_of(request)
    grant = getattr(request.state, "grant", None)
    shared = {
        "t": t,
        "language": t.language,
        "csrf": session.csrf_of(request),
        "grant": grant,
        "offered": offered(grant),
        "keyless": grant is not None and grant.key == NO_KEY,
        "path": request.url.path,
        "here": request.url.path + (f"?{request.url.query}" if request.url.query else ""),
        "signed_in": bool(session.token_of(request)),
    }
    content = _environment().get_template(template).render(**shared, **values)
    return HTMLResponse(content, status_code=status, headers=HEADERS)


def failure_page(request: Request, error: ShopfitError) -> HTMLResponse:
    """An error as a page, or as a part of the page that asked for it."""
    part = "hx-request" in request.headers
    template = "failure_part.html" if part else "failure.html"
    grant = getattr(request.state, "grant", None)
    status, waits = error.http_status, getattr(error, "retry_after", None)
    if grant is None or grant.merchant is not None:
        error = for_clients(error)
    response = render(request, template, status=status, error=error)
    if waits is not None:
        response.headers["retry-after"] = str(math.ceil(waits))
    if part:
        response.headers["hx-retarget"] = "#notice"
        response.headers["hx-reswap"] = "innerHTML"
    return response


def as_data(value: Any) -> Markup:
    """A value as JSON for an attribute or a `<script type="application/json">`: nothing in it ends either."""
    text = json.dumps(document(value), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").replace("'", "\\u0027"))  # noqa: S704


def shown(values: Mapping[str, Any]) -> str:
    """Fields of a prompt in one line."""
    return "  ".join(f"{name}: {value}" for name, value in values.items())
