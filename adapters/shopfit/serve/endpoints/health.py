"""`/health` and `/ready`: whether the process lives, and whether it takes requests. Neither needs a key."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse

from shopfit.serve.gateway import Gateway

router = APIRouter(tags=["health"])


@router.get("/health")
async def health() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


class Readiness(BaseModel):
    """Whether requests are taken, and which engines are."""

    status: Literal["ready", "starting", "draining"]
    engines: dict[str, bool]


@router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(request: Request) -> JSONResponse:
    """Requests are taken: each engine has come up or failed to, one runs if there are any, and this is not the end."""
    gateway: Gateway = request.app.state.gateway
    known = gateway.engines.engines
    engines = {engine.base.label: engine.running is not None for engine in known}
    # one base that does not load, or whose engine starts again, takes no other base's requests away
    up = all(engine.settled for engine in known) and (any(engines.values()) or not engines)
    fine = up and not gateway.draining
    status = "ready" if fine else "draining" if gateway.draining else "starting"
    return JSONResponse({"status": status, "engines": engines}, 200 if fine else 503)
