"""Routes whose bodies are JSON as `strict_json` reads it."""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, get_type_hints

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from shopfit.serve.endpoints.asking import LONGEST_USER, USER, Asks, asking_of
from shopfit.serve.failures import FAILURES
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
    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        super().__init__(path, endpoint, **more)
        self._body_type = _only_body(endpoint)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, which gets a request that reads JSON strictly."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_JsonRequest(request.scope, request.receive))

        return handle_strictly

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. A request in which nothing is wrong goes to its endpoint at once, and any other through FastAPI.

        FastAPI finds out what is wrong, in its own words; but what it does for each request takes longer than all that
        the gateway does.
        """
        if self._body_type is None or scope["method"] not in (self.methods or ()):
            await super().handle(scope, receive, send)
            return
        message = await receive()  # with the whole body, which `RequestGuard` has read
        kinds, users = ([value for name, value in scope["headers"] if name == wanted] for wanted in _HEADERS)
        body = None
        if kinds == [b"application/json"] and (not users or len(users[0]) <= LONGEST_USER):
            body = _valid(self._body_type, message.get("body", b""))
        if body is None:
            await super().handle(scope, _again(message, receive), send)
            return
        response: Response = await self.endpoint(body, asking_of(scope, users[0].decode("latin-1") if users else ""))
        await response(scope, receive, send)


_HEADERS = (b"content-type", USER.encode())


def _only_body(endpoint: Callable[..., Any]) -> type[BaseModel] | None:
    """The type of an endpoint's body, if it takes that and whose it is, and nothing else."""
    taken = get_type_hints(endpoint, include_extras=True)
    body, asks = taken.get("body"), taken.get("asks")
    only = asks == Asks and taken.keys() - {"return"} == {"body", "asks"}
    return body if only and isinstance(body, type) and issubclass(body, BaseModel) else None


def _valid(body_type: type[BaseModel], sent: bytes) -> BaseModel | None:
    """What was sent, if nothing is wrong with it."""
    try:
        return body_type.model_validate(parse_json(sent))
    except ValueError:  # of JSON and of pydantic
        return None


def _again(message: Message, receive: Receive) -> Receive:
    """Gives a message that was received once more, and then what comes."""
    waiting = [message]

    async def receive_again() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_again


def json_router(tag: str) -> APIRouter:
    """A router whose bodies are JSON, read strictly.

    Args:
        tag: of its endpoints, in the API's docs.
    """
    return APIRouter(tags=[tag], route_class=_JsonRoute, responses=FAILURES)


def example(body: Mapping[str, Any]) -> dict[str, Any]:
    """What the API's docs show as an endpoint's body, instead of one with every field in it.

    Args:
        body: that an adapter of a usual recipe answers.
    """
    return {"requestBody": {"content": {"application/json": {"example": body}}}}
