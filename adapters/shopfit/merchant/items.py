"""Reading a catalog: rows checked and turned into items."""

from pathlib import Path
from typing import Any

from shopfit.errors import DataError, Problem
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.reading import Cells, Row, read_rows
from shopfit.merchant.values import Checks, as_id

_TEXTS = ("description", "brand", "category", "currency", "group")
_CELLS: Cells = {"price": "number", "min_age": "number", "in_stock": "flag"}


def read_catalog(path: MerchantFile | Path) -> Catalog:
    """Read a catalog: `id` and `title` in every row, ids unique; fields it does not know are kept.

    Args:
        path: any file `read_rows` reads.

    Raises:
        DataError: with every bad row.
    """
    problems: list[Problem] = []
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    for row in read_rows(path, cells=_CELLS, problems=problems):
        item = _item(path, row, problems)
        if item is None:
            continue
        if item.id in lines:
            what = f"{item.id!r} is the id of line {lines[item.id]} too"
            problems.append(Problem(f"{path}:{row.line} id", what, "one row an item"))
            continue
        lines[item.id] = row.line
        items[item.id] = item
    if problems:
        raise DataError(f"the catalog {path} has bad rows", problems=problems, next_step="correct the rows named above")
    return Catalog(items)


def _item(path: MerchantFile | Path, row: Row, problems: list[Problem]) -> Item | None:
    checks = Checks(f"{path}:{row.line}")
    values: dict[str, Any] = {name: value for name, value in row.values.items() if value is not None}
    key = as_id(values.get("id"))
    if key is None:
        checks.bad("id", values.get("id"), "text or a whole number")
    title = values.get("title")
    if not isinstance(title, str) or not title.strip():
        checks.bad("title", title, "text")
    for name in _TEXTS:
        if not isinstance(values.get(name, ""), str):
            checks.bad(name, values[name], "text")
    price = values.get("price", 0)
    if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
        checks.bad("price", price, "a number, at least 0")
    min_age = values.get("min_age", 0)
    if isinstance(min_age, bool) or not isinstance(min_age, int | float) or min_age < 0:
        checks.bad("min_age", min_age, "a number of years, at least 0")
    if not isinstance(values.get("in_stock", True), bool):
        checks.bad("in_stock", values["in_stock"], "true, false")
    problems += checks.problems
    if checks.problems or key is None:
        return None
    title = str(title).strip()
    return Item(key, title, values | {"id": key, "title": title})
