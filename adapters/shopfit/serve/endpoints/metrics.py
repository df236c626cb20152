"""`/metrics`: what is counted, for Prometheus.

It names merchants' adapters, so it is for the platform: with any of its keys, which Prometheus sends from a file. Where
a request comes from says nothing, as a proxy on this machine may pass on what comes from anywhere.
"""

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from shopfit.errors import ScopeMissing
from shopfit.serve.endpoints.asking import Asks
from shopfit.serve.engine_statuses import ask_engines

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response)
async def metrics(asks: Asks) -> Response:
    """All metrics, in Prometheus' text format; to a key of the platform."""
    if asks.grant.merchant is not None:
        raise ScopeMissing(
            "this key is a merchant's, and metrics are of all merchants",
            next_step="ask with a key of the platform: `shopfit key create --platform --scope infer`",
        )
    await ask_engines(asks.gateway.engines, asks.gateway.metrics.engines)
    text = await asyncio.to_thread(asks.gateway.metrics.text)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
