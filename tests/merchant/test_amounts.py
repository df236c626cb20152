from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.merchant.amounts import NumberFormat, no_number, readings, settle
from shopfit.recipe.currencies import common, currency_of


@pytest.mark.parametrize(
    ("text", "point", "comma", "currency"),
    [
        ("1.299", 1.299, 1299, None),
        ("1,299", 1299, 1.299, None),
        ("1.299,00 €", None, 1299, "EUR"),
        ("€1.299,00", None, 1299, "EUR"),
        ("$1,299.00", 1299, None, "$"),
        ("US$ 1,299.00", 1299, None, "USD"),
        ("1 299,00", None, 1299, None),
        ("1\u00a0299,00\u00a0EUR", None, 1299, "EUR"),
        ("1\u202f299,00 €", None, 1299, "EUR"),
        ("CHF 1'299.–", 1299, None, "CHF"),
        ("CHF 1’299.95", 1299.95, None, "CHF"),
        ("12,-", None, 12, None),
        ("¥99", 99, 99, "¥"),
        ("￥１，２９９", 1299, 1.299, "¥"),
        ("Rs. 1,00,000.50", 100000.5, None, "rs"),
        ("R$ 1.299,90", None, 1299.9, "BRL"),
        ("1.299.000", None, 1299000, None),
        ("0.999", 0.999, None, None),
        (".99", 0.99, None, None),
        ("-5", -5, -5, None),
        ("1e-3", 0.001, None, None),
        ("$12 CAD", 12, 12, "CAD"),
        ("$.99", 0.99, None, "$"),
        ("£.50", 0.5, None, "GBP"),
        ("US$.99", 0.99, None, "USD"),
        ("EUR .75", 0.75, None, "EUR"),
        ("€,99", None, 0.99, "EUR"),
        ("-$.99", -0.99, None, "$"),
        ("$ -.99", -0.99, None, "$"),
        ("–.99", 0.99, None, None),
        ("CHF —.95", 0.95, None, "CHF"),
        ("CHF --.95", 0.95, None, "CHF"),
        ("Rs.99", 99, 99, "rs"),
        ("Rs. .99", 0.99, None, "rs"),
        ("1.299.-", 1299, 1299, None),
        ("CHF 1.299.-", 1299, 1299, "CHF"),
        ("1,299,-", 1299, 1299, None),
        ("1,299.-", 1299, None, None),
        ("1.299,--", None, 1299, None),
        ("1.299,– €", None, 1299, "EUR"),
        ("1.299.000.-", 1299000, 1299000, None),
        ("1'299.–", 1299, None, None),
        ("Fr. 1’299.—", 1299, None, "CHF"),
        ("Fr. 1 299.—", 1299, None, "CHF"),
        ("12⁹⁹ €", 12.99, 12.99, "EUR"),
        ("$12⁹⁹", 12.99, 12.99, "$"),
        ("12₉₉ €", 12.99, 12.99, "EUR"),
        ("12.⁹⁹ €", 12.99, None, "EUR"),
        ("1.299⁹⁹ €", None, 1299.99, "EUR"),
        ("1 299⁹⁹ €", 1299.99, 1299.99, "EUR"),
        ("١٢٫٩٩".replace("٫", "."), 12.99, None, None),
        ("١٢٫٩٩", 12.99, 12.99, None),
        ("١٬٢٩٩٫٥٠ ر.س", 1299.5, 1299.5, "SAR"),
        ("1,299٫50", 1299.5, None, None),
        ("١٬٢٩٩", 1299, 1299, None),
        ("\u200f129.50 ر.س.\u200f", 129.5, None, "SAR"),
        ("\u200e129\u00a0د.إ.\u200f", 129, 129, "AED"),
        ("\u202bج.م.\u200f ١٢٩\u202c", 129, 129, "EGP"),
        ("\u061c١٢٩\u200f ﷼", 129, 129, "ريال"),
        ("۱۲۹ ریال", 129, 129, "ريال"),
    ],
)
def test_what_a_text_may_mean(text: str, point: float | None, comma: float | None, currency: str | None) -> None:
    found = readings(text)
    assert {mark: amount.value for mark, amount in found.items()} == {
        mark: value for mark, value in (("point", point), ("comma", comma)) if value is not None
    }
    assert {amount.currency for amount in found.values()} == {currency}


@pytest.mark.parametrize(
    "text",
    [
        "9 kg",
        "10-20",
        "from 5",
        "1.2.3",
        "1,2,3",
        "12,34,5",
        "EUR 12 USD",
        "12 %",
        "5 pieces",
        "12²",
        "12⁹⁹⁹",
        "1²9⁹",
        "12 ⁹⁹",
        "12⁹⁹9",
        "⁹⁹",
        "12①",
        "1⑫",
        "12½",
        "١٫٢٫٣",
        "١٢٩ حبة",
        "EUR.75",
        "99¢",
        "99 ct",
        "12.5.-",
        "12,50,-",
        "1.299,00.-",
        ".99.-",
        "1.299.99",
        "x",
        "",
        "1e999",
        "1" * 99,
    ],
)
def test_no_number(text: str) -> None:
    assert readings(text) == {}


@pytest.mark.parametrize(
    ("column", "texts", "values"),
    [
        (["1.299", "12,50"], "1.299", 1299),
        (["1.299", "12.50"], "1.299", 1.299),
        (["1.299", "1.299.000"], "1.299", 1299),
        (["1.299", 12.5, None, "1.299,00 €"], "1.299", 1299),
        (["1,299", "0.99"], "1,299", 1299),
        (["5", "99"], "5", 5),
        (["12.50", "7.95", "8,20"], "7.95", 7.95),
        (["1.299.-", "899.-"], "1.299.-", 1299),
        (["1.299.-", "12,50"], "1.299.-", 1299),
        (["1,299,-", "899,-"], "1,299,-", 1299),
        (["$.99", "$3.50"], "$.99", 0.99),
    ],
)
def test_a_column_has_one_format(column: list[Any], texts: str, values: float) -> None:
    found = settle(column)
    assert not found.doubtful
    read = found.read(texts)
    assert read is not None
    assert read.value == values


def test_a_column_in_which_every_value_fits_both_is_doubtful() -> None:
    assert settle(["1.299", "12"]).doubtful == "1.299"
    assert settle(["1,299 €"]).doubtful == "1,299 €"
    assert not settle(["1.299"], "comma").doubtful
    assert settle(["1.299"], "comma").read("1.299").value == 1299  # type: ignore[union-attr]
    assert settle(["1.299"], "point").read("1.299").value == 1.299  # type: ignore[union-attr]


def test_numbers_of_other_formats_are_themselves() -> None:
    form = NumberFormat("comma")
    assert form.read(12.5).value == 12.5  # type: ignore[union-attr]
    assert [form.read(value) for value in (True, float("nan"), float("inf"), 10**400, None, [5])] == [None] * 6


@pytest.mark.parametrize("value", [None, float("nan"), "", " ", "NaN", "n/a", "-", "null", "\u200b"])
def test_gaps(value: Any) -> None:
    assert no_number(value)


def test_currencies() -> None:
    assert [currency_of(text) for text in ("eur", "€", "Fr.", "$", "zł", "ABC", "kg")] == [
        *("EUR", "EUR", "CHF", "$", "PLN"),
        *(None, None),
    ]
    assert common("$", "CAD") == common("CAD", "$") == "CAD"
    assert common("$", "EUR") is None


@given(
    st.decimals(0, 10**7, places=2),
    st.sampled_from(["{:,.2f}", "{:.2f}"]),
    st.sampled_from([("", ""), ("€ ", ""), ("", " EUR"), ("$", ""), ("", "\u00a0€")]),
    st.sampled_from([",", " ", "'", "\u00a0", "\u202f", "’"]),
)
def test_what_is_written_is_read(number: Any, form: str, around: tuple[str, str], group: str) -> None:
    point = form.format(number).replace(",", group)
    comma = form.format(number).replace(",", "|").replace(".", ",").replace("|", "." if group == "," else group)
    for text in (point, comma):
        read = settle([around[0] + text + around[1]]).read(around[0] + text + around[1])
        assert read is not None
        assert read.value == float(number)
