"""Errors as HTTP answers: the status of each class, in the shape of OpenAI's API, with what is allowed and next."""

import math
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from shopfit.errors import (
    DeadlineExceeded,
    KeyRefused,
    LimitExceeded,
    RegistryError,
    RequestError,
    ScopeMissing,
    ShopfitError,
    UnknownReference,
)
from shopfit.recipe.suggestions import shown
from shopfit.serve.body_mistakes import mistakes


class FailureProblem(BaseModel):
    """One mistake."""

    where: str
    what: str
    allowed: str


class FailureDetail(BaseModel):
    """What is wrong, in the words of OpenAI's API and in ours."""

    message: str
    type: str
    param: str | None
    code: str | None
    problems: list[FailureProblem]
    next: str


class Failure(BaseModel):
    """The body of every error."""

    error: FailureDetail


FAILURES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Failure, "description": "The request cannot be answered; the error says why, and what next."},
    "5XX": {"model": Failure, "description": "The gateway or an engine cannot answer now."},
}
"""What the API's docs say of errors."""

_RETRY_SOON = 1  # seconds, where an engine is full or being started
_TYPES: dict[type[ShopfitError], tuple[str, str]] = {
    KeyRefused: ("authentication_error", "invalid_api_key"),
    ScopeMissing: ("permission_error", "insufficient_scope"),
    UnknownReference: ("invalid_request_error", "model_not_found"),
    LimitExceeded: ("rate_limit_error", "rate_limit_exceeded"),
    DeadlineExceeded: ("timeout_error", "deadline_exceeded"),
    RequestError: ("invalid_request_error", "invalid_request"),
}


def error_body(error: ShopfitError, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape, with every problem and the next step."""
    if (
        isinstance(error, RegistryError) and error.__cause__ is not None
    ):  # of a database or a disk: where it is, no client is told
        error = RegistryError("the registry cannot be used now", next_step="send the request again in a moment")
    told = error.document()
    status = error.http_status
    kind, code = next(
        (names for known, names in _TYPES.items() if isinstance(error, known)),
        ("invalid_request_error", "invalid_request") if status < 500 else ("server_error", "unavailable"),
    )
    if status == 503:
        code = "overloaded"
    return {
        "error": {
            "message": "\n".join(error.lines),
            "type": kind,
            "param": param,
            "code": code,
            "problems": told["problems"],
            "next": told["next"],
        }
    }


def error_response(
    error: ShopfitError, headers: Mapping[str, str] | None = None, param: str | None = None
) -> JSONResponse:
    """An error as an answer; it says when to come again where that may help, and not to where it cannot."""
    more = dict(headers or {})
    status = error.http_status
    if isinstance(error, LimitExceeded):
        more["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    elif status == 503:
        more["retry-after"] = str(_RETRY_SOON)
    else:
        more["x-should-retry"] = "false"
    if status == 401:
        more["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error, param), status, more)


def invalid_body(error: RequestValidationError, known: Mapping[str, Any]) -> ShopfitError:
    """What is wrong with a body, every mistake of it.

    Args:
        error: as FastAPI found it.
        known: names that the body may have, for a "did you mean".
    """
    problems = mistakes(error.errors(), error.body, known)
    return RequestError(
        "the request's body is not valid", problems=problems, next_step="correct it; /docs shows every field"
    )


def other_failure(error: HTTPException, method: str, path: str) -> JSONResponse:
    """What the framework refuses (no such path, no such method), in the same shape.

    Args:
        error: the framework's.
        method: of the request.
        path: of the request.
    """
    what, following = str(error.detail), "see /docs for what there is"
    if error.status_code in (404, 405):
        what = f"there is no {method} {shown(path)} here"
    if error.status_code == 404:
        following += ", such as /v1/models: OpenAI's clients take the address with /v1, Cohere's without"
    body = {"message": f"{what}\nNext: {following}", "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse(
        {"error": {**body, "problems": [], "next": following}}, error.status_code, dict(error.headers or {})
    )
