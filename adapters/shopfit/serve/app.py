"""The gateway as an ASGI application: its endpoints, its errors, its middleware."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shopfit import __version__
from shopfit.errors import ShopfitError
from shopfit.serve.console.guard import ConsoleGuard
from shopfit.serve.console.pages import PAGES
from shopfit.serve.endpoints import (
    catalog,
    chat,
    classify,
    completions,
    docs,
    embeddings,
    feedback,
    health,
    metrics,
    models,
    rate,
    recommend,
    releases,
    rerank,
)
from shopfit.serve.failures import error_response, invalid_body, other_failure
from shopfit.serve.gateway import Gateway
from shopfit.serve.key_guard import KeyGuard
from shopfit.serve.middleware import RequestGuard
from shopfit.serve.request_observer import RequestObserver

_ROUTERS = (  # those asked most first
    classify.router,
    rerank.router,
    recommend.router,
    rate.router,
    embeddings.router,
    completions.router,
    chat.router,
    models.router,
    catalog.router,
    releases.router,
    feedback.router,
    health.router,
    metrics.router,
    docs.router,
    *PAGES,
)


def make_app(gateway: Gateway) -> FastAPI:
    """The application of a gateway, which it closes in the end.

    Args:
        gateway: that has started.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await gateway.close()

    app = FastAPI(
        title="shopfit",
        version=__version__,
        description="Every merchant's adapter, by key. `model` is `merchant/recipe`, with `@alias` or `@number`.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # `endpoints.docs` has one that loads nothing from elsewhere
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # `Tracing` and `Metrics` have what is to be had
    )
    app.state.gateway = gateway
    for router in _ROUTERS:
        app.router.routes.extend(router.routes)  # each looked at once: through `include_router` a request is at many
    app.add_exception_handler(ShopfitError, _shopfit_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _our_error)  # which is logged besides
    app.add_middleware(RequestGuard, timeout=gateway.options.timeout)
    app.add_middleware(KeyGuard, gateway=gateway)
    app.add_middleware(ConsoleGuard, gateway=gateway)
    app.add_middleware(RequestObserver, gateway=gateway)  # the last is the outermost
    return app


async def _shopfit_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ShopfitError)
    return error_response(error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    invalid = invalid_body(error, _body_model(request.scope.get("route")))
    return error_response(invalid, param=invalid.problems[0].where if invalid.problems else None)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return other_failure(error, request.method, request.url.path)


async def _our_error(_: Request, error: Exception) -> Response:
    failure = ShopfitError(
        f"the gateway could not answer this request: {type(error).__name__}",
        next_step="other requests go on; please report this one if it comes again",
    )
    return error_response(failure)


def _body_model(route: Any) -> Any:
    """The type of a route's body; None if it has none."""
    body = route.body_field if isinstance(route, APIRoute) else None
    return getattr(getattr(body, "field_info", None), "annotation", None)
