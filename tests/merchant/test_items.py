import json
from pathlib import Path
from typing import Any

import pytest

from shopfit.errors import DataError
from shopfit.merchant.catalog import Item
from shopfit.merchant.items import read_catalog


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
        ({"id": "x", "title": "x", "price": "9 €"}, ":2 price: '9 €' is not accepted (allowed: a number, at least 0)"),
        ({"id": "x", "title": "x", "price": -1}, ":2 price: -1 is not accepted"),
        ({"id": "x", "title": "x", "price": True}, ":2 price: true is not accepted"),
        ({"id": "x", "title": "x", "in_stock": "yes"}, ":2 in_stock: 'yes' is not accepted (allowed: true, false)"),
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
