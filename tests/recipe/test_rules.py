"""Which items the rules let through."""

import pytest
from pydantic import ValidationError

from shopfit.recipe.rules import Rules


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


@pytest.mark.parametrize("currency", ["ERU", "x", "", "5", "kg"])
def test_what_is_no_currency_is_refused(currency: str) -> None:
    with pytest.raises(ValidationError, match="is no currency"):
        Rules(currency=currency)
