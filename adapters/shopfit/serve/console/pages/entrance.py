"""Signing in and out, the reader's language, and the files that pages load."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Form
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shopfit.errors import KeyRefused
from shopfit.serve.console import session
from shopfit.serve.console.assets import asset
from shopfit.serve.console.rendering import render
from shopfit.serve.console.routes import page_router
from shopfit.serve.console.wording import LANGUAGES

router = page_router()

_YEAR = 365 * 86400


@router.get("/sign-in")
async def sign_in(request: Request, next: str = session.HOME) -> Response:  # noqa: A002 - the query's name
    """Ask for a key."""
    return render(request, "sign_in.html", next=session.local(next), refused=False)


@router.post("/sign-in")
async def signed_in(
    request: Request,
    key: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = session.HOME,  # noqa: A002 - the form's name
) -> Response:
    """Keep a key that is valid in the browser."""
    token, place = key.strip(), session.local(next)
    try:
        await request.app.state.gateway.authentication.check(token)
    except KeyRefused:
        return render(request, "sign_in.html", status=HTTPStatus.UNAUTHORIZED, next=place, refused=True)
    response = RedirectResponse(place, HTTPStatus.SEE_OTHER)
    session.begin(response, request, token)
    return response


@router.post("/sign-out")
async def sign_out(request: Request, csrf: Annotated[str, Form()] = "") -> Response:
    """Forget the key, also one that is no longer valid."""
    session.check_csrf(request, csrf)
    response = RedirectResponse("/console/sign-in", HTTPStatus.SEE_OTHER)
    session.end(response)
    return response


@router.get("/language/{language}")
async def choose_language(language: str, next: str = session.HOME) -> Response:  # noqa: A002 - the query's name
    """Keep the reader's language in the browser."""
    response = RedirectResponse(session.local(next), HTTPStatus.SEE_OTHER)
    if language in LANGUAGES:
        response.set_cookie(session.LANGUAGE, language, max_age=_YEAR, path=session.HOME, samesite="lax")
    return response


@router.get("/assets/{name}")
async def file(request: Request, name: str) -> Response:
    """A file that pages load; its address changes with its content, so that browsers may keep it."""
    found = asset(name)
    if found is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such file")
    headers = {"cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    headers |= {"x-content-type-options": "nosniff"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.compressed, media_type=found.kind, headers=headers | {"content-encoding": "gzip"})
    return Response(found.content, media_type=found.kind, headers=headers)
