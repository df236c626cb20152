"""What a message is made of: short lines, every mistake, and what to do next."""

import json

import pytest

from shopfit import errors
from shopfit.errors import KeyRefused, LimitExceeded, Problem, RecipeError, ShopfitError, UnknownVersion


def test_no_line_is_endless_whatever_it_shows() -> None:
    endless = "0x" + "f" * 100_000 + "\x00"
    error = RecipeError(
        f"there is no recipe file {endless}",
        problems=[Problem(f"{endless}: tune.lr", endless, endless)] * 3,
        next_step="name another",
    )
    assert all(len(line) <= 4096 + 3 for line in error.lines)
    assert error.message.startswith("there is no recipe file 0xff")
    assert len(str(error)) < 20_000
    assert error.lines[-1] == "Next: name another"


def test_a_line_that_fits_is_whole() -> None:
    path = "/" + "a/" * 2000
    assert RecipeError(path).message == path


KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ShopfitError)]


def example_of(kind: type[ShopfitError]) -> ShopfitError:
    said = {"problems": [Problem("tune.lr", "it is -1", "above 0"), Problem("a", "b")], "next_step": "mend it"}
    if kind is KeyRefused:
        return KeyRefused("revoked", "k1")
    if kind is LimitExceeded:
        return LimitExceeded("acme has had 60 requests in this minute", retry_after=2.5, **said)
    if kind is UnknownVersion:
        return UnknownVersion("acme/r@9 does not exist", versions=("@1", "@2 (refused)"), **said)
    return kind("it went wrong", **said)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_reaches_another_process_as_what_it_is(kind: type[ShopfitError]) -> None:
    error = example_of(kind)
    arrived = ShopfitError.from_document(json.loads(json.dumps(error.document())))
    assert type(arrived) is kind
    assert arrived.lines == error.lines
    assert (arrived.problems, arrived.http_status, arrived.exit_code) == (error.problems, kind.http_status, 2)
    for more in ("retry_after", "versions"):
        assert getattr(arrived, more, None) == getattr(error, more, None)


def test_why_a_key_was_refused_stays_where_it_is_known() -> None:
    assert "revoked" not in json.dumps(example_of(KeyRefused).document())
    assert "k1" not in json.dumps(example_of(KeyRefused).document())


def test_an_error_of_no_known_kind_is_an_error_all_the_same() -> None:
    for name in ("SystemExit", "shopfit.errors.Problem", "Problem", "_KINDS", ""):
        document = example_of(RecipeError).document() | {"kind": name}
        assert type(ShopfitError.from_document(document)) is ShopfitError


def test_every_kind_says_what_http_answers() -> None:
    assert {kind.__name__: kind.http_status for kind in KINDS if kind.http_status != ShopfitError.http_status} == {
        "DataError": 422,
        "BaseError": 503,
        "BundleError": 503,
        "UnknownReference": 404,
        "UnknownVersion": 404,
        "UnknownMerchant": 404,
        "UnknownRelease": 404,
        "UnknownCatalog": 404,
        "UnknownAnswer": 404,
        "RegistryError": 503,
        "RegistryUnavailable": 503,
        "KeyRefused": 401,
        "ScopeMissing": 403,
        "RequestError": 422,
        "LimitExceeded": 429,
        "Overloaded": 503,
        "EngineEnded": 503,
        "DeadlineExceeded": 504,
    }
