"""Errors as clients see them: each kind has its own code, and what is for operators alone stands in the log."""

import logging

import pytest

from shopfit import errors
from shopfit.errors import (
    BaseError,
    BundleError,
    Problem,
    RecipeError,
    RegistryUnavailable,
    ShopfitError,
    UnknownReference,
    UnknownVersion,
)
from shopfit.serve.failures import error_body, error_response

PLACE = "/srv/secret/blobs"


def test_every_kind_has_its_own_code() -> None:
    assert {kind.__name__: code_of(kind("it went wrong")) for kind in KINDS} == {
        "ShopfitError": "internal_error",
        "RecipeError": "adapter_unavailable",
        "Diverged": "internal_error",
        "DataError": "invalid_request",
        "BaseError": "base_unavailable",
        "BundleError": "adapter_unavailable",
        "UnknownReference": "model_not_found",
        "UnknownMerchant": "merchant_not_found",
        "UnknownRelease": "release_not_found",
        "UnknownCatalog": "catalog_not_found",
        "UnknownAnswer": "answer_not_found",
        "RegistryError": "unavailable",
        "RegistryUnavailable": "registry_unavailable",
        "ScopeMissing": "insufficient_scope",
        "RequestError": "invalid_request",
        "Overloaded": "overloaded",
        "EngineEnded": "engine_unavailable",
        "DeadlineExceeded": "deadline_exceeded",
    }
    assert code_of(UnknownVersion("it went wrong", versions=("@1",))) == "model_not_found"
    assert code_of(errors.KeyRefused("unknown")) == "invalid_api_key"
    assert code_of(errors.LimitExceeded("it went wrong", retry_after=1)) == "rate_limit_exceeded"


OTHERS = {"KeyRefused", "LimitExceeded", "UnknownVersion"}  # which are made of more than a message
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, ShopfitError) and kind.__name__ not in OTHERS
]


def code_of(error: ShopfitError) -> str:
    return str(error_body(error)["error"]["code"])


@pytest.mark.parametrize("kind", [RegistryUnavailable, BundleError, RecipeError, BaseError])
def test_where_something_is_stands_in_the_log_alone(kind: type[ShopfitError], caplog: pytest.LogCaptureFixture) -> None:
    error = kind(f"{PLACE} failed", problems=[Problem(PLACE, "it is gone")], next_step=f"look into {PLACE}")
    arrived = ShopfitError.from_document(error.document())  # as it comes from an engine process
    with caplog.at_level(logging.ERROR):
        told = error_response(arrived)
    assert PLACE.encode() not in told.body
    assert b"ask whoever runs the platform" in told.body
    assert caplog.text.count(PLACE) == 3


def test_who_may_retry() -> None:
    assert error_response(BundleError("it went wrong")).headers["retry-after"] == "1"
    assert error_response(RegistryUnavailable("it went wrong")).headers["retry-after"] == "1"
    assert error_response(UnknownReference("it went wrong")).headers["x-should-retry"] == "false"
