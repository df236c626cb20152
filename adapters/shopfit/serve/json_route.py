"""Routes whose bodies are JSON as `strict_json` reads it."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from shopfit.serve.endpoints.asking import LONGEST_USER, USER, Asks, asking_of
from shopfit.strict_json import parse_json


class _JsonRequest(Request):
    async def json(self) -> Any:
        """The body as JSON.

        Raises:
            JSONDecodeError: why it is refused; FastAPI makes an error of validation of it.
        """
        if not hasattr(self, "_json"):
            try:
                self._json = parse_json(await self.body())
            except json.JSONDecodeError:
                raise
            except ValueError as error:
                raise json.JSONDecodeError(str(error), "", 0) from None
        return self._json


class _JsonRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which gets a request that reads JSON strictly."""
        handle, endpoint = super().get_route_handler(), self.endpoint
        body_type = _only_body(endpoint)

        async def handle_strictly(request: Request) -> Response:
            strict = _JsonRequest(request.scope, request.receive)
            if body_type is not None and (body := await _valid(strict, body_type)) is not None:
                response: Response = await endpoint(body, asking_of(strict, strict.headers.get(USER, "")))
                return response
            return await handle(strict)  # FastAPI says what is wrong

        return handle_strictly


def _only_body(endpoint: Callable[..., Any]) -> type[BaseModel] | None:
    """The type of an endpoint's body, if it takes that and whose it is, and nothing else.

    FastAPI takes longer to find these two than the whole rest of the gateway to answer.
    """
    taken = get_type_hints(endpoint, include_extras=True)
    body, asks = taken.get("body"), taken.get("asks")
    only = asks == Asks and taken.keys() - {"return"} == {"body", "asks"}
    return body if only and isinstance(body, type) and issubclass(body, BaseModel) else None


async def _valid(request: Request, body_type: type[BaseModel]) -> BaseModel | None:
    """A request's body, if nothing is wrong with the request."""
    if request.headers.get("content-type") != "application/json" or len(request.headers.get(USER, "")) > LONGEST_USER:
        return None
    try:
        return body_type.model_validate(await request.json())
    except (json.JSONDecodeError, ValidationError):
        return None


def json_router(tag: str) -> APIRouter:
    """A router whose bodies are JSON, read strictly.

    Args:
        tag: of its endpoints, in the API's docs.
    """
    return APIRouter(tags=[tag], route_class=_JsonRoute)


def example(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the API's docs show as an endpoint's body, instead of one with every field in it.

    Args:
        body: that an adapter of a usual recipe answers.
    """
    return {"requestBody": {"content": {"application/json": {"example": body}}}}
