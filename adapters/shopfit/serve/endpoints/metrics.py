"""`/metrics`: what is counted, for Prometheus.

It names merchants' adapters, so it is for the platform: with any of its keys (Prometheus sends one from a file), or
from this machine itself, as with `curl` or an agent beside the gateway. What a proxy on this machine passes on is not
from this machine: it says for whom it is.
"""

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from shopfit.errors import ScopeMissing
from shopfit.serve.authentication import is_loopback_name
from shopfit.serve.engine_statuses import ask_engines
from shopfit.serve.failures import FAILURES

if TYPE_CHECKING:
    from shopfit.serve.gateway import Gateway

router = APIRouter(tags=["health"], responses=FAILURES)

_PASSED_ON = ("forwarded", "via", "x-forwarded-", "x-real-ip", "x-envoy-")
"""How headers begin that proxies add."""


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """All metrics, in Prometheus' text format."""
    gateway: Gateway = request.app.state.gateway
    if not _is_from_here(request):
        grant = await gateway.authentication.grant(request)
        if grant.merchant is not None:
            raise ScopeMissing(
                "this key is a merchant's, and metrics are of all merchants",
                next_step="ask with a key of the platform: `shopfit key create --platform --scope infer`",
            )
    await ask_engines(gateway.engines, gateway.metrics.engines)
    text = await asyncio.to_thread(gateway.metrics.text)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _is_from_here(request: Request) -> bool:
    if "authorization" in request.headers or any(name.startswith(_PASSED_ON) for name in request.headers):
        return False
    # in a browser here, a name that some page made up may lead here, too
    return is_loopback_name(request.url.hostname or "") and is_loopback_name(
        request.client.host if request.client else ""
    )
