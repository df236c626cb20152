"""Product exports of Shopify and WooCommerce, as they come: their rows as rows of a catalog.

A product's first row says what all its variants have in common; theirs say the rest. Formats: help.shopify.com (Using
CSV files to import and export products), woocommerce.com (Product CSV Import Schema).
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from shopfit.merchant.reading import Row
from shopfit.merchant.stock_cell import as_stock
from shopfit.merchant.values import is_missing

Values = Mapping[str, Any]

_SPACES = re.compile(r"\s+")
_BROKEN_LINE = re.compile(r"\\(\\n|n)")  # WooCommerce writes a line break as \n, and what reads so already as \\n
_EVIDENCE = 3  # columns that hardly another file has
_SHOPIFY_MARKS = frozenset(
    (
        *("body (html)", "seo title", "published", "published on online store", "image src", "product image url"),
        *("option1 name", "option1 value", "variant sku", "variant price", "variant grams", "variant barcode"),
        *("variant inventory qty", "variant inventory policy", "variant inventory tracker", "variant image"),
        *("variant compare at price", "variant requires shipping", "variant taxable", "variant fulfillment service"),
        *("inventory tracker", "inventory quantity", "continue selling when out of stock", "product category"),
    )
)
_WOOCOMMERCE_MARKS = frozenset(
    (
        *("is featured?", "visibility in catalog", "in stock?", "backorders allowed?", "sold individually?"),
        *("regular price", "sale price", "short description", "tax status", "tax class", "low stock amount"),
        *("allow customer reviews?", "purchase note", "shipping class", "grouped products", "upsells", "cross-sells"),
        *("external url", "button text", "download limit", "attribute 1 name", "attribute 1 value(s)"),
        *("date sale price starts", "date sale price ends"),
    )
)
_SHARED = (
    *("title", "body (html)", "description", "vendor", "product category", "type", "tags", "published", "status"),
    *("published on online store", "image src", "product image url", "option1 name", "option2 name", "option3 name"),
)
_OF_A_VARIANT = (
    *("variant sku", "variant price", "option1 value", "variant inventory qty", "variant barcode", "variant grams"),
    *("sku", "price", "inventory quantity", "barcode"),
)
_PARENTS = (
    *("name", "description", "short description", "categories", "tags", "brands", "images", "published"),
    "visibility in catalog",
)


@dataclass(frozen=True, slots=True)
class Export:
    """A shop system's export.

    Args:
        name: of the system.
        rows: one an item, under our names; what has no name of ours is kept under its own.
        left_out: rows that are no items, such as a product's further images.
    """

    name: str
    rows: list[Row]
    left_out: int = 0


def of_export(rows: Sequence[Row], ours: Collection[str]) -> Export | None:
    """The items of an export, if that is what the rows are: known by several columns that hardly another file has.

    Args:
        rows: as they were read.
        ours: our fields' names. A column that is called so, and is none of the system's own, is kept as it is.
    """
    names = {_low(name) for name in set(chain.from_iterable(row.values for row in rows))}
    for system, is_it, read, theirs in _SYSTEMS:
        if is_it(names):
            filled = [
                Row(row.line, {name: value for name, value in row.values.items() if not is_missing(value)})
                for row in rows
            ]
            kept = {row.line: {name: row.values[name] for name in ours if name in row.values} for row in filled}
            found = read(
                system, [Row(row.line, {_low(name): value for name, value in row.values.items()}) for row in filled]
            )
            items = [
                Row(
                    row.line,
                    row.values | {name: value for name, value in kept[row.line].items() if name not in theirs},
                )
                for row in found.rows
            ]
            return Export(found.name, items, found.left_out)
    return None


def _low(name: str) -> str:
    return _SPACES.sub(" ", name.strip()).casefold()


def _is_shopify(names: Collection[str]) -> bool:
    known = "handle" in names or {"url handle", "title"} <= set(names)
    return known and len(_SHOPIFY_MARKS & set(names)) >= _EVIDENCE


def _is_woocommerce(names: Collection[str]) -> bool:
    wanted = {"name", "type"} <= set(names) and bool({"id", "sku"} & set(names))
    return wanted and len(_WOOCOMMERCE_MARKS & set(names)) >= _EVIDENCE


def _shopify(system: str, rows: Sequence[Row]) -> Export:
    products: dict[str, dict[str, Any]] = {}
    items, left_out = [], 0
    for row in rows:
        values = row.values
        handle = _text(values, "handle", "url handle")
        shared = products.setdefault(handle, {})
        for name in _SHARED:  # the first row that says it
            if name in values:
                shared.setdefault(name, values[name])
        if handle and not _text(values, "title") and not _text(values, *_OF_A_VARIANT):
            left_out += 1  # one more image of the product
            continue
        items.append(Row(row.line, _shopify_item(handle, {**shared, **values})))
    return Export(system, items, left_out)


def _shopify_item(handle: str, values: Values) -> dict[str, Any]:
    options = [_text(values, f"option{number} value") for number in (1, 2, 3)]
    variant = " / ".join(option for option in options if option and option.casefold() != "default title")
    key = _text(values, "variant sku", "sku").removeprefix("'")  # that keeps a table from taking it for a number
    named = {
        "id": key or (f"{handle}/{variant}" if variant else handle),
        "group": handle,
        "title": _text(values, "title"),
        "description": _text(values, "body (html)", "description"),
        "brand": _text(values, "vendor"),
        "category": _text(values, "type", "product type") or _text(values, "product category"),
        "price": _text(values, "variant price", "price"),
        "image": _text(values, "variant image", "variant image url", "image src", "product image url"),
        "variant": variant,
        "in_stock": _shopify_stock(values),
    }
    return _with_the_rest(named, values, _SHOPIFY_READ)


def _shopify_stock(values: Values) -> bool | None:
    """Whether it is published and there, or sold although it is not, or not counted."""
    if _text(values, "status").casefold() in ("draft", "archived"):
        return False
    if as_stock(_text(values, "published", "published on online store")) is False:
        return False
    oversold = _text(values, "variant inventory policy", "continue selling when out of stock").casefold()
    if oversold in ("continue", "true"):
        return True
    counted = _text(values, "variant inventory qty", "inventory quantity")
    # without a tracker Shopify writes 0 and sells all the same
    trackers = [
        name
        for name in ("variant inventory policy", "variant inventory tracker", "inventory tracker")
        if name in values
    ]
    tracked = _text(values, "variant inventory tracker", "inventory tracker")
    if not counted or (not tracked and "variant inventory policy" in trackers):
        return True if counted else None
    return as_stock(counted)


_SHOPIFY_READ = {*_SHARED, *_OF_A_VARIANT, "handle", "url handle", "option2 value", "option3 value", "variant image"}
_SHOPIFY_READ |= {"variant image url", "product type", "image position", "image alt text"}


def _woocommerce(system: str, rows: Sequence[Row]) -> Export:
    known: dict[str, Values] = {}
    for row in rows:
        for key in (f"id:{_text(row.values, 'id')}", _text(row.values, "sku")):
            known.setdefault(key, row.values)
    items = []
    for row in rows:
        above = _text(row.values, "parent")
        parent = known.get(above, {}) if above else {}
        shared = {name: parent[name] for name in _PARENTS if name in parent}
        items.append(Row(row.line, _woocommerce_item({**shared, **row.values}, parent)))
    return Export(system, items)


def _woocommerce_item(values: Values, parent: Values) -> dict[str, Any]:
    options = [_text(values, f"attribute {number} value(s)") for number in range(1, 10)] if parent else []
    named = {
        "id": _text(values, "id") or _text(values, "sku"),
        "sku": _text(values, "sku"),
        "group": _text(parent or values, "id") or _text(parent or values, "sku"),
        "title": _text(values, "name"),
        "description": _BROKEN_LINE.sub(_line_break, _text(values, "description", "short description")),
        "brand": _text(values, "brands", "brand"),
        "category": _text(values, "categories"),
        "price": _text(values, "sale price") or _text(values, "regular price"),
        "image": _text(values, "images").partition(",")[0].strip(),
        "variant": " / ".join(option for option in options if option),
        "in_stock": _woocommerce_stock(values) if _is_shown(values) and _is_shown(parent) else False,
    }
    return _with_the_rest(named, values, _WOOCOMMERCE_READ)


def _line_break(written: re.Match[str]) -> str:
    return "\n" if written[1] == "n" else "\\n"


def _is_shown(values: Values) -> bool:
    """Whether a product is published and seen in the shop; of a variation, its product counts too."""
    hidden = _text(values, "visibility in catalog").casefold() == "hidden"
    return not hidden and as_stock(_text(values, "published")) is not False


def _woocommerce_stock(values: Values) -> Any:
    """Whether it is there or on backorder; another word is left to be refused."""
    said = _text(values, "in stock?", "in stock", "stock status")
    if said:
        there = as_stock(said)
        return said if there is None else there
    counted = _text(values, "stock")
    return as_stock(counted) if counted else None


_WOOCOMMERCE_READ = {
    *_PARENTS,
    "id",
    "sku",
    "parent",
    "brand",
    "sale price",
    "regular price",
    "in stock?",
    "stock status",
}


def _with_the_rest(named: Mapping[str, Any], values: Values, read: Collection[str]) -> dict[str, Any]:
    """An item with what else its row says."""
    kept = {name: value for name, value in values.items() if name not in read and name not in named}
    return kept | {name: value for name, value in named.items() if not is_missing(value)}


def _text(values: Values, *names: str) -> str:
    """The first of these columns that says something, as text."""
    for name in names:
        if name in values:
            return str(values[name]).strip()
    return ""


_SYSTEMS: tuple[
    tuple[str, Callable[[Collection[str]], bool], Callable[[str, Sequence[Row]], Export], frozenset[str]], ...
] = (
    ("Shopify", _is_shopify, _shopify, frozenset()),
    ("WooCommerce", _is_woocommerce, _woocommerce, frozenset(("description",))),
)
