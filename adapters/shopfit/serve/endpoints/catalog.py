"""`/v1/merchants/{merchant}/catalog`: what a merchant sells now. Stock and prices reach the next answer."""

from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asking, Asks
from shopfit.serve.endpoints.changes import actor, see
from shopfit.serve.json_route import json_router

router = json_router("catalog")

_ITEM = {"type": "object", "description": "As a line of a `catalog.jsonl`: `id` and `title`, and what else is known."}
_ITEMS = {"type": "array", "items": _ITEM, "minItems": 1}
_WHOLE = {"anyOf": [_ITEMS, {"type": "object", "properties": {"items": _ITEMS}, "required": ["items"]}]}
_CHANGES = {
    "type": "object",
    "description": "By id: fields that change, null to remove one; or null to remove the item.",
    "additionalProperties": {"anyOf": [{"type": "object"}, {"type": "null"}]},
    "minProperties": 1,
}
_PATCH = {"type": "object", "properties": {"items": _CHANGES}, "required": ["items"]}
_SOLD = [{"id": "tent-2", "title": "Two-person tent", "price": 249.0, "currency": "EUR", "in_stock": True}]
_CHANGED = {"tent-2": {"price": 199.0, "in_stock": False}, "mug-1": None}


class CatalogState(BaseModel):
    """Which catalog a merchant has now.

    Args:
        digest: SHA-256 of its content, another one for each change.
        count: of its items.
        size: in bytes.
        changed: when, in UTC.
        began_from: the version whose bundle's catalog a first patch changed; empty else.
    """

    object: Literal["catalog"]
    merchant: str
    digest: str
    count: int
    size: int
    changed: str
    began_from: str


class WholeCatalog(CatalogState):
    """The same with its items."""

    items: list[dict[str, Any]]


def _body(schema: dict[str, Any], sent: Any) -> dict[str, Any]:
    content = {"schema": schema, "example": {"items": sent}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


@router.get("/v1/merchants/{merchant}/catalog", response_model=WholeCatalog)
async def show_catalog(merchant: str, asks: Asks) -> Response:
    """The catalog that was sent. Without one, adapters use those in their bundles, and there is none to show."""
    check_scope(asks.grant, "publish", merchant)
    return Response(await asks.gateway.catalogs.show(merchant), media_type="application/json")


@router.put("/v1/merchants/{merchant}/catalog", response_model=CatalogState, openapi_extra=_body(_WHOLE, _SOLD))
async def put_catalog(merchant: str, request: Request, asks: Asks) -> JSONResponse:
    """Replace a merchant's catalog: a list of items, or `{"items": […]}`."""
    return await _change("put", merchant, request, asks)


@router.patch("/v1/merchants/{merchant}/catalog", response_model=CatalogState, openapi_extra=_body(_PATCH, _CHANGED))
async def patch_catalog(merchant: str, request: Request, asks: Asks) -> JSONResponse:
    """Change some items: `{"items": {id: {field: value, …} | null, …}}`. What was not sent stays as it is."""
    return await _change("patch", merchant, request, asks)


async def _change(do: Literal["put", "patch"], merchant: str, request: Request, asks: Asking) -> JSONResponse:
    check_scope(asks.grant, "publish", merchant)
    state = await asks.gateway.catalogs.change(do, merchant, await request.body(), actor=actor(asks))
    await see(asks)
    return JSONResponse(state)
