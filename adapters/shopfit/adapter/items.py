"""Items as lines of JSON: how a bundle's `catalog.jsonl` and `history.jsonl`, and a registry's catalogs, are kept."""

import json
import math
from collections.abc import Iterable
from typing import Any

from shopfit.adapter.manifest_rules import printable
from shopfit.adapter.safe_reading import lines
from shopfit.errors import BundleError
from shopfit.merchant.catalog import Catalog, Item

CATALOG, HISTORY = "catalog.jsonl", "history.jsonl"
AGAIN = "bring the bundle again, or train it again"
_NUMBERS = ("price", "min_age")
_JSON = json.JSONDecoder(parse_constant=lambda _: None)  # one for all lines: making it takes longer than a line


def written(items: Iterable[Item]) -> str:
    """Items as text, a line each."""
    return "".join(_line(item) for item in items)


def _line(item: Item) -> str:
    fields = {name: value for name, value in item.fields.items() if not _endless(value)}
    return json.dumps(fields, ensure_ascii=False, default=str) + "\n"


def _endless(value: Any) -> bool:
    """Whether it is NaN (pandas' empty cell) or infinite."""
    return isinstance(value, float) and not math.isfinite(value)


def parsed(content: bytes, where: str) -> Catalog:
    """Read what `written` wrote. Numbers that are not finite count as missing.

    Args:
        content: in UTF-8.
        where: it is from, for messages.

    Raises:
        BundleError: if it is anything else.
    """
    items: dict[str, Item] = {}
    for number, line in enumerate(lines(content, where), start=1):
        if not line:
            continue
        try:
            row = _JSON.decode(line.decode("utf-8", "surrogatepass"))
            reason = "it is no item" if not isinstance(row, dict) else _item_problem(row)
        except (ValueError, RecursionError) as error:
            reason = printable(str(error), 200)
        if not reason and row["id"] in items:
            reason = "its id is there twice"
        if reason:
            raise BundleError(f"{where} is not a catalog: line {number}: {reason}", next_step=AGAIN)
        items[row["id"]] = Item(row["id"], row["title"], row)
    return Catalog(items)


def _item_problem(row: dict[str, Any]) -> str:
    """Why `read_catalog` would refuse a row; empty if it would not. Missing values are removed from the row."""
    missing, halves = [], False
    for name, value in row.items():  # once over all values: a catalog has many
        if type(value) is str:
            halves = halves or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value))
        elif value is None or _endless(value):
            missing.append(name)
    for name in missing:
        del row[name]
    for name in ("id", "title"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            return f"its {name} is no text"
    for name in _NUMBERS:
        if name in row and (type(row[name]) not in {int, float} or row[name] < 0):
            return f"its {name} is no number from 0"
    if type(row.get("in_stock", True)) is not bool:
        return "its in_stock is neither true nor false"
    return "a text in it holds half a character" if halves else ""
