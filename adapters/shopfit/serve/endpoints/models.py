"""`/v1/models`: the adapters that a key may use."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.responses import JSONResponse

from shopfit.registry import Version
from shopfit.serve.adapters import unknown_model
from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asks
from shopfit.serve.engines.pool import public_name

router = APIRouter(tags=["models"])


class Model(BaseModel):
    """An adapter in production, as OpenAI's API has models; and which version it is now."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    digest: str
    base: str
    method: str


class Models(BaseModel):
    """All of a key's."""

    object: Literal["list"]
    data: list[Model]


@router.get("/v1/models", response_model=Models)
async def list_models(asks: Asks) -> JSONResponse:
    """The adapters in production that the key may use."""
    check_scope(asks.grant, "infer", asks.grant.merchant)
    found = await asks.gateway.threads.run(asks.gateway.registry.versions, asks.grant.merchant)
    data = [_model(version) for version in found if "production" in version.aliases]
    return JSONResponse({"object": "list", "data": data})


@router.get("/v1/models/{model:path}", response_model=Model)
async def show_model(model: str, asks: Asks) -> JSONResponse:
    """One adapter, by any of its names."""
    reference, version = await asks.gateway.adapters.find(model, asks.grant)
    if reference.merchant != version.merchant:
        raise unknown_model(model)
    return JSONResponse({**_model(version), "id": model})


def _model(version: Version) -> dict[str, object]:
    return {
        "id": f"{version.merchant}/{version.recipe}",
        "object": "model",
        "created": int(version.created.timestamp()),
        "owned_by": version.merchant,
        "version": version.name,
        "digest": version.digest,
        "base": public_name(version.base_name),
        "method": version.method,
    }
