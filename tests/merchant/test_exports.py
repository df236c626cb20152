"""Exports of Shopify and WooCommerce, read as they are."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.merchant.shop import recipe

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.catalog_reading import read_catalog
from shopfit.recipe.schema import Recipe

SHOPIFY = (
    "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Option2 Name,"
    "Option2 Value,Variant SKU,Variant Grams,Variant Inventory Tracker,Variant Inventory Qty,Variant Inventory Policy,"
    "Variant Price,Variant Compare At Price,Image Src,Image Position,SEO Title,Status\n"
    'tee,Organic Tee,"<p>Soft &amp; warm.</p><ul><li>Cotton</li></ul>",Lindt,Apparel > Shirts,Shirts,"a, b",true,Size,'
    "S,Colour,Red,TEE-S,120,shopify,4,deny,1299.00,,https://cdn/t.jpg,1,Tee!,active\n"
    "tee,,,,,,,,,M,,Red,TEE-M,120,shopify,0,deny,19.90,,,,,\n"
    "tee,,,,,,,,,L,,Red,,120,shopify,0,continue,21.50,,,,,\n"
    "tee,,,,,,,,,,,,,,,,,,,https://cdn/2.jpg,2,,\n"
    "mug,Mug,,Lindt,,,,true,Title,Default Title,,,,,,0,deny,5.00,,,,,active\n"
    "old,Old mug,,Lindt,,,,false,Title,Default Title,,,OLD,,shopify,9,deny,5.00,,,,,draft\n"
)
WOOCOMMERCE = (
    "ID,Type,SKU,Name,Published,Is featured?,Visibility in catalog,Short description,Description,Tax status,In stock?,"
    "Stock,Backorders allowed?,Sale price,Regular price,Categories,Tags,Images,Parent,Attribute 1 name,"
    "Attribute 1 value(s)\n"
    '10,variable,HOOD,Hoodie,1,0,visible,Warm.,"<p>A hoodie.</p>\\n<p>Fleece</p>",taxable,1,,0,,,'
    '"Clothing > Hoodies, New",,"https://x/1.jpg, https://x/2.jpg",,Colour,"Red, Blue"\n'
    "11,variation,HOOD-R,Hoodie - Red,1,0,visible,,,taxable,0,0,0,,1299,,,,id:10,Colour,Red\n"
    "12,variation,HOOD-B,,1,0,visible,,,taxable,backorder,,1,35.5,45.50,,,,HOOD,Colour,Blue\n"
    '13,"simple, virtual",,Voucher,-1,0,visible,Gift,,taxable,1,,0,,20,Gifts,,,,,\n'
)


def read(folder: Path, text: str, task: Recipe | None = None) -> Catalog:
    path = folder / "catalog.csv"
    path.write_text(text, encoding="utf-8")
    return read_catalog(path, task)


def column(catalog: Catalog, name: str) -> dict[str, Any]:
    return {key: item.fields.get(name) for key, item in catalog.items()}


def test_shopify(tmp_path: Path) -> None:
    found = read(tmp_path, SHOPIFY)
    assert list(found) == ["TEE-S", "TEE-M", "tee/L / Red", "mug", "OLD"]
    assert [item.title for item in found.values()] == ["Organic Tee"] * 3 + ["Mug", "Old mug"]
    assert set(column(found, "description").values()) == {"Soft & warm. Cotton", None}
    assert found["TEE-M"].fields["description"] == "Soft & warm. Cotton"
    assert column(found, "price") == {"TEE-S": 1299, "TEE-M": 19.9, "tee/L / Red": 21.5, "mug": 5, "OLD": 5}
    assert column(found, "in_stock") == {
        "TEE-S": True,
        "TEE-M": False,  # there, and not
        "tee/L / Red": True,
        "mug": True,  # sold all the same, and not counted
        "OLD": False,  # not published
    }
    tee = found["TEE-M"].fields
    assert (tee["brand"], tee["category"], tee["group"], tee["variant"]) == ("Lindt", "Shirts", "tee", "M / Red")
    assert found["TEE-S"].fields["image"] == "https://cdn/t.jpg"
    assert "M / Red" in found["TEE-M"].text


def test_shopify_of_today(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "Title,URL handle,Description,Vendor,Type,Published on online store,Status,SKU,Option1 name,Option1 value,"
        "Price,Inventory tracker,Inventory quantity,Continue selling when out of stock,Product image URL\n"
        "Tee,tee,<p>Soft</p>,Lindt,Shirts,TRUE,Active,T-S,Size,S,10.00,shopify,3,DENY,https://x/1.jpg\n"
        ",tee,,,,,,T-M,,M,11.00,shopify,0,DENY,\n"
        ",tee,,,,,,,,,,,,,https://x/2.jpg\n",
    )
    assert [(item.id, item.title, item.fields["in_stock"]) for item in found.values()] == [
        ("T-S", "Tee", True),
        ("T-M", "Tee", False),
    ]


def test_woocommerce(tmp_path: Path) -> None:
    found = read(tmp_path, WOOCOMMERCE)
    assert {key: item.title for key, item in found.items()} == {
        "10": "Hoodie",
        "11": "Hoodie - Red",
        "12": "Hoodie",
        "13": "Voucher",
    }
    assert column(found, "price") == {"10": None, "11": 1299, "12": 35.5, "13": 20}
    assert column(found, "in_stock") == {"10": True, "11": False, "12": True, "13": False}
    assert found["12"].fields["description"].startswith("A hoodie.")
    assert "<" not in found["12"].fields["description"]
    assert found["13"].fields["description"] == "Gift"
    assert (found["11"].fields["group"], found["10"].fields["group"]) == ("10", "10")
    assert found["12"].fields["category"] == "Clothing > Hoodies, New"
    assert (found["12"].fields["sku"], found["12"].fields["variant"]) == ("HOOD-B", "Blue")


def test_a_recipe_may_name_another_column(tmp_path: Path) -> None:
    assert "HOOD-B" in read(
        tmp_path, WOOCOMMERCE.replace(",,Voucher", ",V,Voucher"), recipe("rank", columns={"id": "SKU"})
    )


@pytest.mark.parametrize("text", ["id,title,price\n1,Handle,5\n", "id,title,type,name\n1,A,b,c\n"])
def test_other_catalogs_are_no_exports(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)["1"].title in ("Handle", "A")


def test_a_price_of_an_export_has_a_columns_format_too(tmp_path: Path) -> None:
    german = WOOCOMMERCE.replace(",1299,", ',"1.299,00",').replace("35.5,45.50", '"35,5","45,50"')
    assert column(read(tmp_path, german), "price") == {"10": None, "11": 1299, "12": 35.5, "13": 20}


def test_image_rows_of_an_export_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    read(tmp_path, SHOPIFY)
    assert "read as an export of Shopify, 1 rows that are no items left out" in caplog.text


def test_variants_of_an_export_as_jsonl_inherit_what_they_leave_null(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    rows = list(csv.DictReader(io.StringIO(SHOPIFY)))
    lines = [json.dumps({name: value or None for name, value in row.items()}) + "\n" for row in rows]
    path.write_text("".join(lines), encoding="utf-8")
    found, same = read_catalog(path), read(tmp_path, SHOPIFY)
    assert {key: item.fields for key, item in found.items()} == {key: item.fields for key, item in same.items()}


OWN = [
    {"id": "a", "title": "Blue mug", "name": "mug-01", "type": "kitchen", "parent": None, "regular price": 9},
    {"id": "a", "title": "Blue mug", "name": "mug-01", "handle": "mugs", "variant price": 9, "published": True},
]


@pytest.mark.parametrize("row", OWN)
def test_a_shops_own_catalog_is_no_export(tmp_path: Path, row: dict[str, Any]) -> None:
    own = {"price": 5.5, "brand": "Acme", "category": "Mugs", "in_stock": False}
    path = tmp_path / "catalog.jsonl"
    path.write_text(json.dumps(row | own) + "\n", encoding="utf-8")
    item = read_catalog(path)["a"]
    assert (item.title, {name: item.fields[name] for name in own}) == ("Blue mug", own)
    assert read_catalog(path, recipe("rank", columns={"title": "name"}))["a"].title == "mug-01"


def test_what_an_export_says_under_our_names_is_kept(tmp_path: Path) -> None:
    head, *rows = WOOCOMMERCE.splitlines()
    named = "\n".join([f"{head},title,price,in_stock", *(f"{row},Ours {n},{n},false" for n, row in enumerate(rows))])
    found = read(tmp_path, named)
    assert [item.title for item in found.values()] == ["Ours 0", "Ours 1", "Ours 2", "Ours 3"]
    assert column(found, "price") == {"10": 0, "11": 1, "12": 2, "13": 3}
    assert set(column(found, "in_stock").values()) == {False}
    gaps = "\n".join([f"{head},title", *(f"{row},{'Ours' if n == 1 else ''}" for n, row in enumerate(rows))])
    assert [item.title for item in read(tmp_path, gaps).values()] == ["Hoodie", "Ours", "Hoodie", "Voucher"]


def test_a_mapped_column_leaves_gaps_to_what_is_inherited(tmp_path: Path) -> None:
    found = read(tmp_path, WOOCOMMERCE, recipe("rank", columns={"title": "Name"}))
    assert [item.title for item in found.values()] == ["Hoodie", "Hoodie - Red", "Hoodie", "Voucher"]


@pytest.mark.parametrize(
    ("published", "seen"), [("0", "visible"), ("-1", "visible"), ("-1.0", "visible"), ("1", "hidden")]
)
def test_what_hides_a_product_hides_its_variations(tmp_path: Path, published: str, seen: str) -> None:
    hidden = WOOCOMMERCE.replace("Hoodie,1,0,visible", f"Hoodie,{published},0,{seen}")
    assert set(column(read(tmp_path, hidden), "in_stock").values()) == {False}


def test_line_breaks_of_woocommerce(tmp_path: Path) -> None:
    text = WOOCOMMERCE.replace("<p>A hoodie.</p>\\n<p>Fleece</p>", "One\\nTwo\\\\nThree").replace("Gift,", "A\\nB,")
    found = column(read(tmp_path, text), "description")
    assert (found["12"], found["13"]) == ("One\nTwo\\nThree", "A\nB")
