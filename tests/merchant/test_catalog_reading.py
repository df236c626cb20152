import json
from pathlib import Path
from typing import Any

import pytest
from tests.merchant.shop import recipe

from shopfit.errors import DataError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.catalog_reading import read_catalog
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.schema import Recipe


def catalog(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "catalog.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_items_in_order_with_every_field(tmp_path: Path) -> None:
    rows = [
        {"id": "b", "title": " Bag ", "price": 5, "in_stock": False, "colour": ["red"], "brand": None},
        {"title": "Tent", "id": 7, "description": "Dry.", "group": "g"},
    ]
    found = read_catalog(catalog(tmp_path, *rows))
    assert list(found) == ["b", "7"]
    assert found["b"] == Item("b", "Bag", {"id": "b", "title": "Bag", "price": 5, "in_stock": False, "colour": ["red"]})
    assert found["7"].text == "Tent Dry."


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "catalog.csv"
    path.write_text("id,title,price,in_stock,weight\n01,Tent,129.0,yes,2 kg\n")
    assert read_catalog(path)["01"].fields == {
        "id": "01",
        "title": "Tent",
        "price": 129.0,
        "in_stock": True,
        "weight": "2 kg",
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"title": "x"}, ":2 id: is missing (allowed: text or a whole number)"),
        ({"id": " ", "title": "x"}, ":2 id: is missing"),
        ({"id": True, "title": "x"}, ":2 id: true is not accepted"),
        ({"id": "x"}, ":2 title: is missing (allowed: text)"),
        ({"id": "x", "title": 5}, ":2 title: 5 is not accepted"),
        ({"id": "a", "title": "x"}, ":2 id: 'a' is the id of line 1 too"),
        ({"id": "x", "title": "x", "brand": 3}, ":2 brand: 3 is not accepted (allowed: text)"),
        (
            {"id": "x", "title": "x", "price": "9 kg"},
            ":2 price: '9 kg' is not accepted (allowed: a number, at least 0)",
        ),
        (
            {"id": "x", "title": "x", "price": "-9 €"},
            ":2 price: '-9 €' is not accepted (allowed: a number, at least 0)",
        ),
        ({"id": "x", "title": "x", "price": "5-9 €"}, ":2 price: '5-9 €' is not accepted"),
        ({"id": "x", "title": "x", "min_age": "18 €"}, ":2 min_age: '18 €' is not accepted"),
        ({"id": "x", "title": "x", "price": "9 €", "currency": "USD"}, ":2 price: 'EUR' is another currency"),
        ({"id": "x", "title": "x", "price": 10**400}, ":2 price: 1000"),
        ({"id": "\u200b", "title": "x"}, ":2 id: is missing"),
        ({"id": 10**400, "title": "x"}, ":2 id: 1000"),
        ({"id": 2.0**60, "title": "x"}, ":2 id: 1.15"),
        ({"id": "x", "title": "x", "price": -1}, ":2 price: -1 is not accepted"),
        ({"id": "x", "title": "x", "price": True}, ":2 price: true is not accepted"),
        (
            {"id": "x", "title": "x", "in_stock": "Berlin"},
            ":2 in_stock: 'Berlin' is not accepted (allowed: true, false, y",
        ),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_catalog(catalog(tmp_path, {"id": "a", "title": "A"}, row))
    [problem] = caught.value.problems
    assert message in str(problem)


def test_every_bad_row_at_once(tmp_path: Path) -> None:
    path = catalog(tmp_path, {"id": 1}, {"title": "x", "price": "?"}, {"id": 2, "title": "fine"})
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(DataError) as caught:
        read_catalog(path)
    assert sorted(problem.where.rpartition("jsonl:")[2] for problem in caught.value.problems) == [
        "1 title",
        "2 id",
        "2 price",
        "4",
    ]


def test_an_empty_catalog(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no rows"):
        read_catalog(catalog(tmp_path))


def table(folder: Path, text: str, task: Recipe | None = None) -> dict[str, dict[str, Any]]:
    path = folder / "catalog.csv"
    path.write_text(text, encoding="utf-8")
    return {key: dict(item.fields) for key, item in read_catalog(path, task).items()}


def refused(folder: Path, text: str, task: Recipe | None = None) -> str:
    with pytest.raises(DataError) as caught:
        table(folder, text, task)
    assert caught.value.next_step
    return str(caught.value)


def test_prices_of_a_column_have_one_format(tmp_path: Path) -> None:
    german = "id;title;price\n1;Zelt;1.299\n2;Plane;49,90\n3;Hütte;12.999,00 €\n"
    assert [item.get("price") for item in table(tmp_path, german).values()] == [1299, 49.9, 12999]
    assert table(tmp_path, german)["3"]["currency"] == "EUR"
    english = 'id,title,price\n1,Tent,1.299\n2,Tarp,"$1,049.90"\n3,Hut,\n4,Pad,NaN\n'
    read = table(tmp_path, english)
    assert [item.get("price") for item in read.values()] == [1.299, 1049.9, None, None]


def test_a_price_column_that_fits_both_marks_is_refused_with_the_choice(tmp_path: Path) -> None:
    text = "id;title;price\n1;Zelt;1.299\n2;Plane;12\n"
    message = refused(tmp_path, text)
    assert "catalog.csv price: '1.299' is 1.299 or 1299, and every value of the column fits both" in message
    assert "data.decimal: point, or data.decimal: comma" in message
    assert table(tmp_path, text, recipe("rank", decimal="comma"))["1"]["price"] == 1299
    assert table(tmp_path, text, recipe("rank", decimal="point"))["1"]["price"] == 1.299


def test_prices_of_two_formats_in_one_column_are_refused_by_row(tmp_path: Path) -> None:
    message = refused(tmp_path, 'id,title,price\n1,A,12.50\n2,B,7.95\n3,C,"8,20"\n')
    assert ":4 price: '8,20' is not accepted (allowed: a number, at least 0; a decimal point" in message


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_missing_numbers_of_a_table_are_missing(tmp_path: Path, suffix: str) -> None:
    import pandas

    frame = pandas.DataFrame({"id": ["a", "b"], "title": ["A", "B"], "price": [1.5, None], "min_age": [None, 18]})
    path = tmp_path / f"catalog.{suffix}"
    frame.to_parquet(path) if suffix == "parquet" else frame.to_json(path, orient="records", lines=True)
    items = read_catalog(path)
    assert [item.fields.get("price") for item in items.values()] == [1.5, None]
    assert [item.fields.get("min_age") for item in items.values()] == [None, 18]


def test_what_is_nan_passes_no_price_rule_and_every_other_one() -> None:
    nan = {"price": float("nan"), "min_age": float("nan"), "brand": float("nan"), "currency": float("nan")}
    assert Rules(age=3, blocked_brands=["nan"]).allow(nan)
    assert not Rules(min_price=0).allow(nan)
    assert not Rules(max_price=1e9).allow(nan)
    assert not Rules(max_price=10).allow({"price": "5"})


def test_prices_of_another_currency_are_not_compared(tmp_path: Path) -> None:
    rules = Rules(max_price=100, currency="EUR")
    assert rules.allow({"price": 5, "currency": "EUR"})
    assert rules.allow({"price": 5})
    assert not rules.allow({"price": 5, "currency": "USD"})
    task = recipe("rank")
    priced = task.model_copy(update={"serve": task.serve.model_copy(update={"rules": Rules(max_price=100)})})
    text = "id,title,price,currency\n1,A,5,eur\n2,B,6,$\n"
    assert "the catalog has prices in $, EUR" in refused(tmp_path, text, priced)
    named = task.model_copy(update={"serve": task.serve.model_copy(update={"rules": rules})})
    assert table(tmp_path, text, named)["1"]["currency"] == "EUR"


@pytest.mark.parametrize(
    ("said", "there"),
    [
        *[("backorder", True), ("onbackorder", True), ("instock", True), ("In stock", True), ("outofstock", False)],
        *[("Out of stock", False), ("1", True), ("0", False), ("yes", True), ("No", False), ("TRUE", True)],
        *[("12", True), ("-3", False), ("0.0", False), ("1,200", True), ("https://schema.org/InStock", True)],
        *[("http://schema.org/OutOfStock/", False), ("none", False)],
        *[
            ("有货", True),
            ("现货", True),
            ("是", True),
            ("缺货", False),
            ("无货", False),
            ("售罄", False),
            ("否", False),
        ],
        *[("ja", True), ("Nein", False), ("verfügbar", True), ("Auf Lager", True), ("nicht verfügbar", False)],
        *[("Ausverkauft", False), ("WAHR", True), ("FALSCH", False)],
    ],
)
def test_stock_as_shops_write_it(tmp_path: Path, said: str, there: bool) -> None:
    assert table(tmp_path, f'id,title,in_stock\n1,A,"{said}"\n')["1"]["in_stock"] is there
    assert read_catalog(catalog(tmp_path, {"id": 1, "title": "A", "in_stock": said}))["1"].fields["in_stock"] is there


@pytest.mark.parametrize("said", ["n/a", "N/A", "-", "–", "null"])
def test_a_word_for_no_stock_known_is_a_gap(tmp_path: Path, said: str) -> None:
    assert "in_stock" not in table(tmp_path, f"id,title,in_stock\n1,A,{said}\n2,B,yes\n")["1"]


@pytest.mark.parametrize("said", ["yes/no", "no/yes", "有/无", "in stock/out of stock", "shop.example/InStock"])
def test_stock_that_says_two_things_is_refused(tmp_path: Path, said: str) -> None:
    assert f":2 in_stock: {said!r} is not accepted" in refused(tmp_path, f"id,title,in_stock\n1,A,{said}\n")


def test_stock_as_a_number_of_json(tmp_path: Path) -> None:
    rows = [{"id": number, "title": "A", "in_stock": number} for number in (0, 1, 5)]
    assert [item.fields["in_stock"] for item in read_catalog(catalog(tmp_path, *rows)).values()] == [False, True, True]


def test_html_becomes_text(tmp_path: Path) -> None:
    row = {
        "id": 1,
        "title": "Salt &amp; Pepper",
        "description": "<p>Soft<br>wool</p><style>p{}</style>",
        "brand": "<p></p>",
    }
    assert read_catalog(catalog(tmp_path, row))["1"].fields == {
        "id": "1",
        "title": "Salt & Pepper",
        "description": "Soft wool",
    }


def test_columns_map_catalogs_too(tmp_path: Path) -> None:
    columns = {"id": "Artikel", "title": "Name", "price": "Preis", "text": "body"}
    read = table(tmp_path, "Artikel;Name;Preis\n7;Zelt;12,50\n", recipe("rank", columns=columns))
    assert read == {"7": {"id": "7", "title": "Zelt", "price": 12.5}}
    wrong = refused(
        tmp_path, "Artikel;Name;Preis\n7;Zelt;12,50\n", recipe("rank", columns=columns | {"price": "Preise"})
    )
    assert "data.columns.price: there is no column 'Preise'; did you mean 'Preis'?" in wrong


def test_a_missing_title_beside_a_title_says_so(tmp_path: Path) -> None:
    message = refused(tmp_path, "id,Title\n1,A\n2,B\n")
    assert "title: there is no column 'title' (there are id, Title); did you mean 'Title'?" in message
    assert message.count("title") < 10  # once, and not for every row
    assert "there are sku, Produktname" in refused(tmp_path, "sku,Produktname\n1,A\n")


def test_a_column_of_nearly_our_name_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    table(tmp_path, "id,title,In Stock\n1,A,no\n")
    assert "column 'In Stock' is kept as a field of its own" in caplog.text


@pytest.mark.parametrize("values", [(1, "Tent", {}), ("1", None, {}), ("1", "Tent", ["id"]), ("1", "Tent", None)])
def test_what_is_no_item_cannot_be_made(values: Any) -> None:
    with pytest.raises(DataError, match=r"of an item is .* \(allowed: "):
        Item(*values)


@pytest.mark.parametrize(
    ("items", "seen"),
    [
        (None, "a NoneType"),
        ([Item("a", "A", {})], "a list"),
        ({"a": "Tent"}, "'Tent' under 'a'"),
        ({"b": Item("a", "A", {})}, "'a' under 'b'"),
    ],
)
def test_what_is_no_catalog_cannot_be_made(items: Any, seen: str) -> None:
    with pytest.raises(DataError, match=f"made of {seen} .allowed: items, each under its own id"):
        Catalog(items)
