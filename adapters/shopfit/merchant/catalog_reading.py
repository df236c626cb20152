"""Reading a catalog: rows checked and turned into items."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shopfit.errors import DataError, Problem
from shopfit.merchant.amounts import DECIMAL_MARKS, NumberFormat, no_number, settle
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.exports import of_export
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.markup import text_of
from shopfit.merchant.reading import Row, given_rows, read_rows
from shopfit.merchant.stock_cell import ALLOWED, as_stock
from shopfit.merchant.values import Checks, as_id, is_missing, mapped, meant
from shopfit.recipe.currencies import common, currency_of
from shopfit.recipe.schema import DecimalMark, Recipe
from shopfit.recipe.suggestions import did_you_mean

logger = logging.getLogger(__name__)

NUMBERS = ("price", "min_age")
TEXTS = ("description", "brand", "category", "currency", "group", "variant")
FIELDS = ("id", "title", *TEXTS, *NUMBERS, "in_stock", "image")

_SHOWN_COLUMNS = 12
Place = MerchantFile | Path | str  # a file, or the name of what a program gives


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a catalog under our names, and how its columns are written.

    Args:
        rows: one an item.
        formats: of the columns that hold numbers.
        export: name of the shop system that wrote it; empty for a catalog of ours.
        left_out: rows of the export that are no items.
        own: the file's column names.
    """

    rows: list[Row]
    formats: Mapping[str, NumberFormat]
    export: str = ""
    left_out: int = 0
    own: tuple[str, ...] = ()


def read_catalog(path: MerchantFile | Path, recipe: Recipe | None = None) -> Catalog:
    """Read a catalog: `id` and `title` in every row, ids unique; fields it does not know are kept.

    Prices may be numbers or text, in the format of their column; stock may be a truth value, a number or a word;
    HTML becomes text. An export of Shopify or WooCommerce is read as it is.

    Args:
        path: any file `read_rows` reads.
        recipe: its `data.columns` and `data.decimal` say how the file is to be read; and its rules must fit.

    Raises:
        DataError: with every bad row.
    """
    problems: list[Problem] = []
    return _catalog(path, read_rows(path, problems=problems), recipe, problems)


def given_catalog(rows: Iterable[object], name: str = "catalog") -> Catalog:
    """The catalog of rows that a program gives, by the rules for a line of a `catalog.jsonl`.

    Args:
        rows: mappings of names to what JSON can hold.
        name: what they are, for messages; rows are counted from 1.

    Raises:
        DataError: with every bad row.
    """
    problems: list[Problem] = []
    return _catalog(name, given_rows(rows, name, problems), None, problems)


def _catalog(path: Place, rows: Sequence[Row], recipe: Recipe | None, problems: list[Problem]) -> Catalog:
    """The catalog of rows, if there are no problems with them, nor were any before."""
    table = understand(path, rows, recipe, problems)
    check = _Check(path, table, recipe)
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    for row in table.rows:
        item = check(row, problems)
        if item is None:
            continue
        if item.id in lines:
            what = f"{item.id!r} is the id of line {lines[item.id]} too"
            problems.append(Problem(f"{path}:{row.line} id", what, "one row an item"))
            continue
        lines[item.id] = row.line
        items[item.id] = item
    catalog = Catalog(items)
    if recipe is not None and (unclear := recipe.serve.rules.unclear_currency(catalog.currencies)):
        problems.append(Problem(f"serve.rules of recipe {recipe.name}", unclear, "serve.rules.currency: one of them"))
    if problems:
        raise DataError(f"the catalog {path} has bad rows", problems=problems, next_step=_next_step(problems))
    if table.export:
        left_out = f", {table.left_out} rows that are no items left out" if table.left_out else ""
        logger.info("%s: read as an export of %s%s", path, table.export, left_out)
    return catalog


def understand(path: Place, rows: Sequence[Row], recipe: Recipe | None, problems: list[Problem]) -> Table:
    """A catalog's rows under our names, with the format of each column that holds numbers.

    Args:
        path: of the file, or what else they are from, for messages.
        rows: as they were read.
        recipe: its `data` section maps columns and may name the decimal mark.
        problems: where mistakes go that are those of a whole column.
    """
    columns: Mapping[str, str] = {} if recipe is None else recipe.data.columns
    decimal: DecimalMark = "auto" if recipe is None else recipe.data.decimal
    own = dict.fromkeys(name for row in rows for name in row.values)
    export = None if isinstance(path, str) else of_export(rows, FIELDS)  # a program gives rows of ours
    if export is not None:  # what the recipe maps comes before what the export's columns mean
        by_line = {row.line: row.values for row in rows}
        mine = {ours: theirs for ours, theirs in columns.items() if theirs in own and ours in FIELDS}
        read = [Row(row.line, row.values | _named(by_line[row.line], mine)) for row in export.rows]
    else:
        here = {ours: theirs for ours, theirs in columns.items() if theirs in own}
        read = [Row(row.line, mapped(row.values, here)) for row in rows] if here else list(rows)
    there = dict.fromkeys(name for row in read for name in row.values)
    if read:
        problems += _column_problems(path, recipe, own, there)
    formats = {name: settle((row.values.get(name) for row in read), decimal) for name in NUMBERS if name in there}
    unclear = [ambiguous(f"{path} {name}", found) for name, found in formats.items() if found.doubtful]
    problems += [replace(one, allowed="numbers") for one in unclear] if isinstance(path, str) else unclear
    if export is None:
        return Table(read, formats, own=tuple(own))
    return Table(read, formats, export.name, export.left_out, tuple(own))


def _named(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """What a row of an export says in the columns that the recipe maps; a variant's gap is filled by its product's.

    Ids are of one column, so that the same id is never two items'.
    """
    found = {ours: values[theirs] for ours, theirs in columns.items() if theirs in values}
    return {ours: value for ours, value in found.items() if ours == "id" or not is_missing(value)}


def ambiguous(where: str, found: NumberFormat) -> Problem:
    """What is to be said of a column whose decimal mark cannot be known."""
    read = [NumberFormat(mark).read(found.doubtful) for mark in DECIMAL_MARKS]
    values = " or ".join(f"{amount.value:.12g}" for amount in read if amount is not None)
    what = f"{found.doubtful!r} is {values}, and every value of the column fits both"
    return Problem(where, what, "data.decimal: point, or data.decimal: comma")


def _column_problems(
    path: Place, recipe: Recipe | None, own: Mapping[str, None], there: Mapping[str, None]
) -> list[Problem]:
    problems = []
    for name in ("id", "title"):
        if name not in there:
            near = meant(name, own)
            hint = f"; did you mean {near!r}?" if near else did_you_mean(name, own)
            named = ", ".join(list(own)[:_SHOWN_COLUMNS]) + (", …" if len(own) > _SHOWN_COLUMNS else "")
            given = f"{name} in every row"
            problems.append(
                Problem(
                    f"{path} {name}",
                    f"there is no column {name!r} (there are {named}){hint}",
                    given if isinstance(path, str) else f"data.columns: {{{name}: the file's name for it}}",
                )
            )
    for ours, theirs in ({} if recipe is None else recipe.data.columns).items():
        unused = ours in FIELDS and ours != "id" and (recipe is None or ours not in recipe.fields)
        if unused and theirs not in own and ours not in there:
            problems.append(
                Problem(f"{path} data.columns.{ours}", f"there is no column {theirs!r}{did_you_mean(theirs, own)}")
            )
    for ours in FIELDS:
        if ours not in there and ours not in ("id", "title") and (near := meant(ours, there)):
            say = f"if it is the items' {ours}, say so: data.columns: {{{ours}: {near}}}"
            logger.warning("%s: column %r is kept as a field of its own; %s", path, near, say)
    return problems


def _next_step(problems: Sequence[Problem]) -> str:
    if any("data.decimal" in problem.allowed for problem in problems):
        return "name the decimal mark, such as --set data.decimal=comma"
    if any("data.columns" in f"{problem.where} {problem.allowed}" for problem in problems):
        return "map the columns in the recipe's `data.columns`, such as --set data.columns='{title: Name}'"
    return "correct the rows named above"


class _Check:
    """Turns one row into an item, or into everything that is wrong with it."""

    def __init__(self, path: Place, table: Table, recipe: Recipe | None) -> None:
        self._file = str(path)
        self._formats = table.formats
        self._columns = {} if recipe is None or table.export else recipe.data.columns
        self._columns = {ours: theirs for ours, theirs in self._columns.items() if theirs in table.own}
        self._there = {name for row in table.rows for name in row.values}

    def __call__(self, row: Row, problems: list[Problem]) -> Item | None:
        checks = Checks(f"{self._file}:{row.line}", self._columns)
        values = {name: value for name, value in row.values.items() if value is True or not is_missing(value)}
        key = as_id(values.get("id"))
        if key is None and "id" in self._there:
            checks.bad("id", values.get("id"), "text or a whole number")
        title = values.get("title")
        if isinstance(title, str):
            title = text_of(title).strip()
        if (not isinstance(title, str) or not title) and "title" in self._there:
            checks.bad("title", title, "text")
        for name in TEXTS:
            if name in values:
                self._text(checks, values, name)
        self._price(checks, values)
        self._min_age(checks, values)
        if "in_stock" in values:
            self._in_stock(checks, values)
        problems += checks.problems
        if checks.problems or key is None or not title:
            return None
        return Item(key, title, values | {"id": key, "title": title})

    def _text(self, checks: Checks, values: dict[str, Any], name: str) -> None:
        text = values[name]
        if name == "group" and (group := as_id(text)) is not None:
            text = group
        if not isinstance(text, str):
            checks.bad(name, values[name], "text")
            return
        values[name] = text_of(text) if name in ("description", "category", "brand") else text
        if is_missing(values[name]):  # an empty paragraph
            del values[name]

    def _price(self, checks: Checks, values: dict[str, Any]) -> None:
        currency = values.get("currency")
        if isinstance(currency, str):
            currency = values["currency"] = currency_of(currency) or currency.strip()
        if "price" not in values:
            return
        price = self._number(checks, values, "price", "at least 0")
        if price is None or price.currency is None:
            return
        if currency is None:
            values["currency"] = price.currency
        elif (both := common(str(currency), price.currency)) is None:
            checks.bad("price", price.currency, f"{currency}, the row's currency", "is another currency")
        else:
            values["currency"] = both

    def _in_stock(self, checks: Checks, values: dict[str, Any]) -> None:
        written = values.pop("in_stock")
        there = as_stock(written)
        if there is not None:
            values["in_stock"] = there
        elif not no_number(written):  # `n/a`, as of a price
            checks.bad("in_stock", written, ALLOWED)

    def _min_age(self, checks: Checks, values: dict[str, Any]) -> None:
        if "min_age" in values:
            written = values["min_age"]
            age = self._number(checks, values, "min_age", "of years, at least 0")
            if age is not None and age.currency is not None:
                checks.bad("min_age", written, "a number of years")

    def _number(self, checks: Checks, values: dict[str, Any], name: str, bounds: str) -> Any:
        """A number of the row, put in its place; None, and noted, where it is none."""
        value, form = values[name], self._formats[name]
        if no_number(value):
            del values[name]
            return None
        number = form.read(value)
        if number is None or number.value < 0:
            allowed = f"a number, {bounds}" if bounds.startswith("at") else f"a number {bounds}"
            checks.bad(name, value, allowed + (f"; {form.allowed.partition(' with ')[2]}" if form.shown else ""))
            return None
        values[name] = number.value
        return number
