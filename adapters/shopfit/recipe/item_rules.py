"""Which items of a catalog may be recommended: what `serve.rules` and a request may say, and whether an item passes."""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from pydantic import Field, field_validator, model_validator

from shopfit.recipe.currencies import common, currency_of
from shopfit.recipe.folding import folded
from shopfit.recipe.label_spelling import visible
from shopfit.recipe.section import Section


class Rules(Section):
    """Which items of the catalog may be recommended."""

    in_stock: bool = Field(True, description="only items whose `in_stock` is not false")
    min_price: float | None = Field(None, ge=0, description="items without a price are left out")
    max_price: float | None = Field(None, ge=0, description="items without a price are left out")
    currency: str | None = Field(
        None,
        description="of min_price and max_price, such as EUR or €: items with a price in another one are left out",
    )
    age: int | None = Field(None, ge=0, le=150, description="of the shopper: items of a higher `min_age` are left out")
    blocked_brands: list[str] = Field([], description="brands that are left out, in any case and width of letters")

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, currency: str | None) -> str | None:
        if currency is None:
            return None
        known = currency_of(currency)
        if known is None:
            raise ValueError("is no currency: a code of ISO 4217 such as EUR, or a sign such as €")
        return known

    @model_validator(mode="after")
    def _prices_in_order(self) -> "Rules":
        if self.min_price is not None and self.max_price is not None and self.min_price > self.max_price:
            raise ValueError(f"min_price {self.min_price} is above max_price {self.max_price}")
        return self

    def allow(self, item: Mapping[str, Any]) -> bool:
        """Whether an item of a catalog, by its fields, passes all rules."""
        return not self.broken(item)

    def broken(self, item: Mapping[str, Any]) -> str:
        """The key of the first rule that an item breaks; empty if it passes. What is no number, or NaN, is missing."""
        if self.in_stock and item.get("in_stock") is False:
            return "in_stock"
        if unaffordable := self._unaffordable(item):
            return unaffordable
        if self.age is not None and (min_age := _number(item.get("min_age"))) is not None and min_age > self.age:
            return "age"
        brand = item.get("brand")
        if not self.blocked_brands or not isinstance(brand, str):
            return ""
        blocked = _brand_key(brand) in map(_brand_key, self.blocked_brands)
        return "blocked_brands" if blocked else ""

    def _unaffordable(self, item: Mapping[str, Any]) -> str:
        if self.min_price is None and self.max_price is None:
            return ""
        price = _number(item.get("price"))
        if price is None:
            return "min_price" if self.max_price is None else "max_price"
        if not self._may_be_in(item.get("currency")):
            return "currency"
        if self.min_price is not None and price < self.min_price:
            return "min_price"
        return "max_price" if self.max_price is not None and price > self.max_price else ""

    def _may_be_in(self, currency: Any) -> bool:
        """Whether a price in `currency` can be compared: in none, in that of the rules, or in a sign it shares."""
        if self.currency is None or not isinstance(currency, str) or not currency.strip():
            return True
        known = currency_of(currency)
        return known is not None and common(known, self.currency) is not None

    def unclear_currency(self, currencies: Collection[str]) -> str:
        """What is wrong with prices of these rules for a catalog with these currencies; empty if nothing is."""
        if self.currency is not None or len(currencies) < 2 or (self.min_price is None and self.max_price is None):
            return ""
        return f"a price is compared, but the catalog has prices in {', '.join(sorted(currencies))}"


@lru_cache(maxsize=10_000)
def _brand_key(brand: str) -> str:
    return " ".join(folded(visible(brand)).split())


def _number(value: Any) -> float | None:
    """A number; None for NaN and for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return value
