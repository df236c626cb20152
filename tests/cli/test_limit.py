"""`shopfit limit`: limits are set, changed one by one, lifted and listed."""

import json
from datetime import UTC, datetime

import pytest
from tests.cli.conftest import Run
from tests.registry.conftest import MakeBundle, make_bundle

from shopfit.registry import UNLIMITED, Limits, Registry
from shopfit.settings import Settings

__all__ = ["make_bundle"]


@pytest.fixture
def filled(settings: Settings, make_bundle: MakeBundle) -> Settings:
    """acme has a version, other a key."""
    with Registry.open(settings) as registry:
        registry.publish(make_bundle(), promote=True, actor="ada")
        registry.create_key("other", ["infer"], new=True, actor="ada")
    return settings


def limits(settings: Settings) -> dict[str, Limits]:
    with Registry.open(settings) as registry:
        return registry.limits()


def test_limits_are_set_one_by_one(run: Run, filled: Settings) -> None:
    assert "no merchant has limits, nor used tokens today; set them" in run("limit", "ls").stdout
    first = run("limit", "set", "acme", "--requests-per-minute", "600", "--tokens-per-day", "1000000")
    assert first.stdout == "acme: 600 requests a minute, 1,000,000 tokens a day\n", first.stderr
    second = json.loads(
        run("limit", "set", "acme", "--concurrent", "0", "--tokens-per-day", "unlimited", "--json").stdout
    )
    assert second == {
        "merchant": "acme",
        "limits": {"requests_per_minute": 600, "concurrent": 0, "tokens_per_day": "unlimited"},
    }
    assert limits(filled) == {"acme": Limits(600, 0, UNLIMITED)}
    run("limit", "set", "other", "--concurrent", "3")
    with Registry.open(filled) as registry:
        registry.add_usage({"acme": 4321}, datetime.now(UTC).date())
    listed = run("limit", "ls").stdout
    assert "600 requests a minute, 0 at the same time (lets no request through), unlimited tokens a day" in listed
    assert "4,321 tokens today" in listed
    assert "3 at the same time  0 tokens today" in listed
    assert [one["merchant"] for one in json.loads(run("limit", "ls", "--json").stdout)] == ["acme", "other"]
    (ours,) = json.loads(run("limit", "ls", "acme", "--json").stdout)
    assert ours["tokens_today"] == 4321
    less = run("limit", "set", "acme", "--tokens-per-day", "default", "--concurrent", "Default")
    assert less.stdout == "acme: 600 requests a minute\n"
    assert limits(filled)["acme"] == Limits(600)
    lifted = run("limit", "set", "acme", "--requests-per-minute", "default")
    assert lifted.stdout == "acme: no limits of its own\n"
    assert list(limits(filled)) == ["other"]
    assert "merchant 'nobody' has no limits" in run("limit", "ls", "nobody").stdout
    told = run("registry", "audit", "acme").stdout
    assert "limit  acme  requests_per_minute 600, tokens_per_day 1000000" in told
    assert "limit  acme  requests_per_minute 600, concurrent 0, tokens_per_day unlimited" in told
    assert "limit  acme  none of its own" in told


def test_zero_says_what_it_does(run: Run, filled: Settings) -> None:
    done = run("limit", "set", "acme", "--requests-per-minute", "0", "--tokens-per-day", "0")
    assert done.stdout == (
        "acme: 0 requests a minute (lets no request through), 0 tokens a day (lets no answer through)\n"
    )
    told = " ".join(run("limit", "set", "--help").stdout.split())
    assert "0 lets nothing through, and `unlimited` everything" in told
    assert "Requests at the same time are always those of one gateway" in told


def test_an_erased_merchant_has_none(run: Run, filled: Settings) -> None:
    run("limit", "set", "other", "--concurrent", "3")
    assert "no versions yet, only API keys" in run("registry", "ls", "other").stdout
    erased = run("merchant", "erase", "other", "--yes")
    assert "limits  1 row" in erased.stdout, erased.stderr
    assert "1 API key, 1 of limits; " in run("registry", "audit", "other").stdout
    assert limits(filled) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["acme"], "this sets no limit"),
        (
            ["acme", "--concurrent", "-1"],
            "--concurrent is '-1' (allowed: a whole number, 0 or more, and 0 lets nothing",
        ),
        (["acme", "--concurrent", "none"], "unlimited; or default"),
        (["acme", "--concurrent", "1.5"], "--concurrent is '1.5'"),
        (["acme", "--tokens-per-day", "many"], "--tokens-per-day is 'many'"),
        (["acme", "--tokens-per-day", "9" * 5000], "--tokens-per-day is '999"),
        (["acme", "--tokens-per-day", "9" * 20], "allowed: a whole number, 0 to 1000000000000000"),
        (["acmee", "--concurrent", "1"], "did you mean 'acme'?"),
        (["house", "--concurrent", "1"], "house is no merchant"),
        (["../acme", "--concurrent", "1"], "is not the name of a merchant"),
    ],
)
def test_what_cannot_be_set_says_why(run: Run, filled: Settings, arguments: list[str], said: str) -> None:
    done = run("limit", "set", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert limits(filled) == {}
