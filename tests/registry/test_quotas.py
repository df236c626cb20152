"""Limits of merchants, and the tokens that are counted against them."""

from datetime import UTC, date, datetime

import pytest
from tests.registry.conftest import MakeBundle, at_once

from shopfit.errors import RegistryError, UnknownReference
from shopfit.registry import UNLIMITED, Limits, Registry
from shopfit.settings import Settings

TODAY, TOMORROW = date(2027, 1, 31), date(2027, 2, 1)


@pytest.fixture
def filled(registry: Registry, make_bundle: MakeBundle) -> Registry:
    """acme has a version, other has a key."""
    registry.publish(make_bundle(), promote=True, actor="ada")
    registry.create_key("other", ["infer"], new=True, actor="ada")
    return registry


def test_limits_are_set_replaced_and_lifted(filled: Registry) -> None:
    assert filled.limits() == {}
    filled.set_limits("other", Limits(concurrent=0), actor="ada")
    filled.set_limits("acme", Limits(600, 20, 10**6), actor="ada")
    assert filled.limits() == {"acme": Limits(600, 20, 10**6), "other": Limits(concurrent=0)}
    filled.set_limits("acme", Limits(tokens_per_day=10**15), actor="bob")
    assert filled.limits()["acme"] == Limits(None, None, 10**15)
    filled.set_limits("acme", Limits(), actor="bob")
    assert filled.limits() == {"other": Limits(concurrent=0)}
    assert [(one.actor, one.reference, one.detail) for one in filled.audit() if one.action == "limit"] == [
        ("ada", "other", "concurrent 0"),
        ("ada", "acme", "requests_per_minute 600, concurrent 20, tokens_per_day 1000000"),
        ("bob", "acme", "tokens_per_day 1000000000000000"),
        ("bob", "acme", "none of its own"),
    ]


def test_none_is_not_unlimited(filled: Registry) -> None:
    filled.set_limits("acme", Limits(600, UNLIMITED), actor="ada")
    assert filled.limits() == {"acme": Limits(600, UNLIMITED, None)}
    assert filled.audit()[-1].detail == "requests_per_minute 600, concurrent unlimited"
    with pytest.raises(RegistryError, match="UNLIMITED, or None for what gateways' options say"):
        filled.set_limits("acme", Limits(UNLIMITED - 1), actor="ada")


def test_a_merchant_of_which_there_is_nothing_gets_no_limits(filled: Registry) -> None:
    with pytest.raises(UnknownReference, match="nothing of a merchant 'acmee' in the registry; did you mean") as caught:
        filled.set_limits("acmee", Limits(concurrent=1), actor="ada")
    assert "shopfit key create" in caught.value.next_step
    with pytest.raises(RegistryError, match="house is no merchant"):
        filled.set_limits("house", Limits(concurrent=1), actor="ada")
    assert filled.limits() == {}


@pytest.mark.parametrize("value", [-1, 1.5, True, "1", 10**15 + 1, float("nan"), [1]])
@pytest.mark.parametrize("field", ["requests_per_minute", "concurrent", "tokens_per_day"])
def test_limits_that_are_none(filled: Registry, field: str, value: int) -> None:
    with pytest.raises(RegistryError, match=rf"{field} is .*allowed: a whole number, 0 to"):
        filled.set_limits("acme", Limits(**{field: value}), actor="ada")
    with pytest.raises(RegistryError, match="limits is"):
        filled.set_limits("acme", {field: 1}, actor="ada")
    assert filled.limits() == {}


def test_tokens_are_counted_by_merchant_and_day(filled: Registry) -> None:
    assert filled.usage(TODAY) == {}
    filled.add_usage({"acme": 7, "other": 1}, TODAY)
    filled.add_usage({"acme": 10**15}, TODAY)
    filled.add_usage({"acme": 3}, TOMORROW)
    filled.add_usage({}, TODAY)
    assert filled.usage(TODAY) == {"acme": 10**15 + 7, "other": 1}
    assert filled.usage(TOMORROW) == {"acme": 3}


def test_bad_counts_count_nothing(filled: Registry) -> None:
    bad: list[tuple[object, object]] = [
        ({"acme": 1, "other": -1}, TODAY),
        ({"acme": 1, "other": 0.5}, TODAY),
        ({"acme": True}, TODAY),
        ({"acme": 10**15 + 1}, TODAY),
        ({"acme": 1}, "2027-01-31"),
        ({"acme": 1}, datetime.now(UTC)),
        ([("acme", 1)], TODAY),
    ]
    for tokens, day in bad:
        with pytest.raises(RegistryError):
            filled.add_usage(tokens, day)
    with pytest.raises(UnknownReference):
        filled.add_usage({"acme": 1, "../other": 1}, TODAY)
    assert filled.usage(TODAY) == {}
    with pytest.raises(RegistryError, match="day is"):
        filled.usage("2027-01-31")


def test_processes_that_count_the_same_merchants_lose_nothing(durable: Settings, make_bundle: MakeBundle) -> None:
    names = [f"m{number}" for number in range(6)]
    with Registry.open(durable) as registry:
        for name in names:
            registry.create_key(name, ["infer"], new=True, actor="ada")

    def count(turn: int) -> None:
        with Registry.open(durable) as own:
            for _ in range(25):
                own.add_usage(dict.fromkeys(names if turn % 2 else reversed(names), 1), TODAY)

    at_once(4, count)
    with Registry.open(durable) as registry:
        assert registry.usage(TODAY) == dict.fromkeys(names, 100)


def test_erasing_a_merchant_takes_both_and_what_comes_late_is_left_out(filled: Registry, place: Settings) -> None:
    for name in ("acme", "other"):
        filled.set_limits(name, Limits(concurrent=1), actor="ada")
        filled.add_usage({name: 5}, TODAY)
        filled.add_usage({name: 5}, TOMORROW)
    planned = filled.erase("acme", place, actor="eve", dry_run=True)
    receipt = filled.erase("acme", place, actor="eve")
    assert planned.rows == receipt.rows == {"limits": 1, "usage": 2}
    filled.add_usage({"acme": 1, "other": 1, "never-there": 1}, TODAY)  # a server that counted it before
    assert filled.usage(TODAY) == {"other": 6}
    assert filled.limits() == {"other": Limits(concurrent=1)}
    assert filled.erase("acme", place, actor="eve") == receipt
