"""`/v1/merchants/{merchant}/catalog`: what a merchant sells now. Stock and prices reach the next answer."""

import json
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shopfit.documents import document
from shopfit.errors import RequestError, UnknownCatalog
from shopfit.recipe.suggestions import shown
from shopfit.registry import Registry, StoredCatalog
from shopfit.serve.authentication import check_scope
from shopfit.serve.endpoints.asking import Asking, Asks
from shopfit.serve.endpoints.changes import actor, see
from shopfit.serve.json_route import json_router
from shopfit.strict_json import parse_json

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
    content = await asks.gateway.threads.run_long(merchant, lambda: _whole(asks.gateway.registry, merchant))
    return Response(content, media_type="application/json")


@router.put("/v1/merchants/{merchant}/catalog", response_model=CatalogState, openapi_extra=_body(_WHOLE, _SOLD))
async def put_catalog(merchant: str, request: Request, asks: Asks) -> JSONResponse:
    """Replace a merchant's catalog: a list of items, or `{"items": […]}`."""

    def put(sent: Any) -> StoredCatalog:
        items = sent if isinstance(sent, list) else _items(sent, list, "a list of items")
        return asks.gateway.registry.put_catalog(merchant, items, actor=actor(asks))

    return await _change(merchant, request, asks, put)


@router.patch("/v1/merchants/{merchant}/catalog", response_model=CatalogState, openapi_extra=_body(_PATCH, _CHANGED))
async def patch_catalog(merchant: str, request: Request, asks: Asks) -> JSONResponse:
    """Change some items: `{"items": {id: {field: value, …} | null, …}}`. What was not sent stays as it is."""

    def patch(sent: Any) -> StoredCatalog:
        changes = _items(sent, dict, "an object of items by id")
        return asks.gateway.registry.patch_catalog(merchant, changes, actor=actor(asks))

    return await _change(merchant, request, asks, patch)


async def _change(
    merchant: str, request: Request, asks: Asking, change: Callable[[Any], StoredCatalog]
) -> JSONResponse:
    check_scope(asks.grant, "publish", merchant)
    body = await request.body()
    stored = await asks.gateway.threads.run_long(merchant, lambda: change(_read(body)))
    await see(asks)
    return JSONResponse(_state(stored))


def _read(body: bytes) -> Any:
    try:
        return parse_json(body)
    except ValueError as error:
        raise RequestError(f"the request's body is not JSON: {error}", next_step="correct it") from None


def _items(sent: Any, kind: type, allowed: str) -> Any:
    if not isinstance(sent, dict) or sent.keys() != {"items"} or not isinstance(sent["items"], kind):
        raise RequestError(
            f'the request\'s body is {shown(sent)} (allowed: {{"items": …}} with {allowed})', next_step="correct it"
        )
    return sent["items"]


def _state(stored: StoredCatalog) -> dict[str, Any]:
    told = document(stored)
    named = {"object": "catalog", "count": told.pop("items"), "began_from": told.pop("base")}
    del told["actor"]
    return {**told, **named}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _whole(registry: Registry, merchant: str) -> bytes:
    """A catalog with its items, as JSON.

    Raises:
        UnknownCatalog: if there is none.
        RegistryError: if it cannot be read.
    """
    while (stored := registry.stored_catalog(merchant)) is not None:
        catalog = registry.catalog(merchant)
        if catalog is not None and registry.stored_catalog(merchant) == stored:  # else it has changed meanwhile
            items = ",".join(_json(dict(item.fields)) for item in catalog.values())  # each by itself: others go on
            return f'{_json(_state(stored))[:-1]},"items":[{items}]}}'.encode()
    raise UnknownCatalog(
        f"no catalog of {merchant} was sent, so that its adapters use those in their bundles",
        next_step="send one with PUT, or change items with PATCH",
    )
