"""Which items the rules let through."""

from typing import Any

import pytest

from shopfit.errors import RecipeError
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Data, Recipe, Serve


@pytest.mark.parametrize("currency", ["€", "EUR", "eur", " Euro "])
def test_a_currency_may_be_written_as_prices_are(currency: str) -> None:
    rules = Rules(currency=currency, max_price=20)
    assert rules.currency == "EUR"
    assert [rules.allow({"price": 10, "currency": seen}) for seen in ("EUR", "€", "eur", "", None)] == [True] * 5
    assert [rules.allow({"price": 10, "currency": seen}) for seen in ("PLN", "zł", "$", "pts")] == [False] * 4


def test_a_sign_that_several_share_may_be_any_of_them() -> None:
    assert Rules(currency="USD", max_price=20).allow({"price": 10, "currency": "$"})
    assert Rules(currency="$", max_price=20).allow({"price": 10, "currency": "CAD"})
    assert not Rules(currency="EUR", max_price=20).allow({"price": 10, "currency": "$"})


@pytest.mark.parametrize(
    ("blocked", "brand"),
    [
        ("ABC", "ＡＢＣ"),
        ("ipek", "İpek"),
        ("IPEK", "ıpek"),
        ("STRASSE", "Straße"),
        ("Acme Tea", "acme\u200b  tea "),
        ("ＡＢＣ", "abc"),
    ],
)
def test_a_blocked_brand_is_one_in_any_form_of_its_letters(blocked: str, brand: str) -> None:
    rules = Rules(blocked_brands=[blocked])
    assert rules.broken({"brand": brand}) == "blocked_brands"
    assert rules.allow({"brand": f"{brand}x"})


@pytest.mark.parametrize("currency", ["ERU", "x", "", "5", "kg"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    with pytest.raises(RecipeError, match="is no currency"):
        Rules(currency=currency)


def test_all_that_is_wrong_with_rules_is_told_in_our_words() -> None:
    with pytest.raises(RecipeError) as caught:
        Rules(min_price=-1, currency="ERU", max_prise=3)  # type: ignore[call-arg]
    assert caught.value.lines == [
        "Rules cannot be made from these values",
        "  min_price: -1 is out of range (allowed: a number, at least 0)",
        "  currency: 'ERU' is no currency: a code of ISO 4217 such as EUR, or a sign such as €",
        "  max_prise: is not a key; did you mean 'max_price'? (allowed: in_stock, min_price, max_price, currency, age, "
        "blocked_brands)",
        "Next: correct what is named above",
    ]
    with pytest.raises(RecipeError) as caught:
        Rules(min_price=2, max_price=1)
    assert [str(problem) for problem in caught.value.problems] == ["Rules: min_price 2.0 is above max_price 1.0"]


@pytest.mark.parametrize(
    ("part", "values"),
    [
        (Rules, {"age": "old"}),
        (Serve, {"top": 0, "rules": {"age": -1}}),
        (Adapter, {"method": "lara"}),
        (Data, {}),
        (Recipe, {"name": "A b", "task": "choose", "data": {"file": "/etc"}}),
    ],
)
def test_no_part_of_a_recipe_leaks_an_error_that_is_not_ours(part: Any, values: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        part(**values)
    assert caught.value.problems
    assert caught.value.next_step


def test_mistakes_of_all_parts_are_still_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({"name": "r", "adapter": {"rank": 0}, "serve": {"top": 0, "rules": {"age": -1}}})
    keys = {problem.where for problem in caught.value.problems}
    assert {"adapter.rank", "serve.top", "serve.rules.age", "task", "data"} <= keys
