"""Errors as HTTP answers: the status of each class, in the shape of OpenAI's API, with what is allowed and next."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from shopfit.errors import (
    BaseError,
    BundleError,
    DeadlineExceeded,
    EngineEnded,
    KeyRefused,
    LimitExceeded,
    Overloaded,
    RecipeError,
    RegistryUnavailable,
    RequestError,
    ScopeMissing,
    ShopfitError,
    UnknownAnswer,
    UnknownCatalog,
    UnknownMerchant,
    UnknownReference,
    UnknownRelease,
)
from shopfit.recipe.suggestions import shown
from shopfit.serve.body_mistakes import mistakes

logger = logging.getLogger(__name__)


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
_TYPES: dict[type[ShopfitError], tuple[str, str]] = {  # the first that fits
    KeyRefused: ("authentication_error", "invalid_api_key"),
    ScopeMissing: ("permission_error", "insufficient_scope"),
    UnknownAnswer: ("invalid_request_error", "answer_not_found"),
    UnknownCatalog: ("invalid_request_error", "catalog_not_found"),
    UnknownMerchant: ("invalid_request_error", "merchant_not_found"),
    UnknownRelease: ("invalid_request_error", "release_not_found"),
    UnknownReference: ("invalid_request_error", "model_not_found"),
    LimitExceeded: ("rate_limit_error", "rate_limit_exceeded"),
    DeadlineExceeded: ("timeout_error", "deadline_exceeded"),
    RequestError: ("invalid_request_error", "invalid_request"),
    Overloaded: ("server_error", "overloaded"),
    EngineEnded: ("server_error", "engine_unavailable"),
    RegistryUnavailable: ("server_error", "registry_unavailable"),
    BundleError: ("server_error", "adapter_unavailable"),
    RecipeError: ("server_error", "adapter_unavailable"),
    BaseError: ("server_error", "base_unavailable"),
}
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 408: "body_too_slow", 409: "conflict", 413: "body_too_large"}
_OF_ADAPTER = "the adapter cannot be used now: what is stored of it is missing, damaged or not for this release"
_FOR_OPERATORS: dict[type[ShopfitError], str] = {
    RegistryUnavailable: "the registry cannot be used now",
    BundleError: _OF_ADAPTER,
    RecipeError: _OF_ADAPTER,
    BaseError: "the base of the adapter cannot be used now",
}
"""What clients are told of errors that say where something is: that stands in the log alone."""


def error_body(error: ShopfitError, param: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's shape, with every problem and the next step; what is for operators alone is logged."""
    kind, code = names_of(type(error))
    error = for_clients(error)
    told = error.document()
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


def for_clients(error: ShopfitError) -> ShopfitError:
    """An error as clients are told it: what is for operators alone is logged, and something else said."""
    what = next((what for known, what in _FOR_OPERATORS.items() if isinstance(error, known)), None)
    if what is None:
        return error
    logger.error("%s: %s", what, error)
    again = "send the request again in a moment; if that does not help, ask whoever runs the platform"
    return ShopfitError(what, next_step=again)


def names_of(kind: type[ShopfitError]) -> tuple[str, str]:
    """The type and the code that answers have of a class of errors."""
    for known, names in _TYPES.items():
        if issubclass(kind, known):
            return names
    status = kind.http_status
    if status < 500:
        return "invalid_request_error", _BY_STATUS.get(status, "invalid_request")
    return "server_error", "unavailable" if status == 503 else "internal_error"


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


def invalid_body(error: RequestValidationError, model: Any) -> ShopfitError:
    """What is wrong with a body, every mistake of it.

    Args:
        error: as FastAPI found it.
        model: type of the body; None if there is none.
    """
    problems = mistakes(error.errors(), error.body, model)
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
    code = _BY_STATUS.get(error.status_code, "invalid_request")
    body = {"message": f"{what}\nNext: {following}", "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse(
        {"error": {**body, "problems": [], "next": following}}, error.status_code, dict(error.headers or {})
    )
