"""Routes whose bodies are JSON as `strict_json` reads it."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

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
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_strictly


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
