"""What was understood of each column of a merchant's files: its kind, how it is written, what is missing."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shopfit.errors import DataError, Problem
from shopfit.merchant.amounts import Amount, no_number, settle
from shopfit.merchant.catalog_reading import NUMBERS, read_catalog, understand
from shopfit.merchant.examples import cells_of
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import SUFFIXES, Row, read_rows
from shopfit.merchant.splits import test_file_of
from shopfit.merchant.stock_cell import as_stock
from shopfit.merchant.times import settle_times
from shopfit.merchant.unlabeled import unlabeled_file_of
from shopfit.merchant.values import as_label, is_missing, mapped
from shopfit.recipe.schema import DecimalMark, Recipe
from shopfit.recipe.suggestions import shown

Kind = Literal["text", "number", "truth value", "stock", "time", "label", "list", "object", "mixed", "empty"]
Role = Literal["catalog", "examples", "test set", "unlabeled", "file"]

_EXAMPLES = 3
_LONGEST = 40  # characters of an example
_MOST_LABELS = 50


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        name: ours, where it has one; else the file's.
        column: the file's own name, where that is another.
        kind: what its values are.
        form: how they are written, such as `decimal comma, EUR`; empty where there is nothing to say.
        filled: rows that say something.
        missing: rows that do not.
        least: smallest number or earliest time; of text, the fewest characters.
        most: likewise.
        examples: some values, as messages show them.
        counts: of labels and the like: how often each stands there.
    """

    name: str
    column: str
    kind: Kind
    form: str
    filled: int
    missing: int
    least: float | str | None = None
    most: float | str | None = None
    examples: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One file of a merchant.

    Args:
        file: its path inside the merchant's folder.
        role: what the recipe reads it as.
        rows: that could be read.
        columns: what was understood of each.
        export: of a catalog: the shop system that wrote it, else empty.
        left_out: of an export: rows that are no items.
        problems: what keeps it from being used.
    """

    file: str
    role: Role
    rows: int
    columns: tuple[Column, ...]
    export: str = ""
    left_out: int = 0
    problems: tuple[Problem, ...] = ()


def check_files(merchant: Merchant, recipe: Recipe | None = None) -> list[CheckedFile]:
    """What is understood of a merchant's files.

    Args:
        merchant: whose folder.
        recipe: that reads them, with its mapping of columns; without one, every file of the folder is looked at.
    """
    if recipe is None:
        names = sorted(path.name for path in merchant.folder.iterdir() if path.is_file() and path.suffix in SUFFIXES)
        return [
            _catalog(merchant, name, None) if _named_catalog(name) else _rows(merchant, name, "file", None)
            for name in names
        ]
    data = recipe.data
    found = [_catalog(merchant, name, recipe) for name in (data.catalog, data.history_catalog) if name]
    files: list[tuple[str | None, Role]] = [(test_file_of(merchant, recipe), "test set")]
    files.append((unlabeled_file_of(merchant, recipe), "unlabeled"))
    if merchant.file(data.file).exists() or not any(name for name, _ in files):
        files.insert(0, (data.file, "examples"))
    return found + [_rows(merchant, name, role, recipe) for name, role in files if name]


def _named_catalog(name: str) -> bool:
    return Path(name).stem.casefold() in ("catalog", "catalogue", "products", "items", "ads", "articles")


def _catalog(merchant: Merchant, name: str, recipe: Recipe | None) -> CheckedFile:
    problems: list[Problem] = []
    path = merchant.file(name, _encoding(recipe))
    try:
        rows = read_rows(path, problems=problems)
    except DataError as error:
        return CheckedFile(name, "catalog", 0, (), problems=(Problem(name, error.message, error.next_step),))
    table = understand(path, rows, recipe, problems)
    try:
        read_catalog(path, recipe)
    except DataError as error:
        problems = list(error.problems)
    columns = {} if recipe is None else recipe.data.columns
    said = _columns(table.rows, columns if not table.export else {}, _decimal(recipe), numbers=NUMBERS)
    return CheckedFile(name, "catalog", len(table.rows), said, table.export, table.left_out, tuple(problems))


def _rows(merchant: Merchant, name: str, role: Role, recipe: Recipe | None) -> CheckedFile:
    problems: list[Problem] = []
    try:
        path = merchant.file(name, _encoding(recipe))
        rows = read_rows(path, cells=cells_of(recipe) if recipe else None, problems=problems)
    except DataError as error:
        return CheckedFile(name, role, 0, (), problems=(Problem(name, error.message, error.next_step),))
    columns = {} if recipe is None else recipe.data.columns
    there = {name for row in rows for name in row.values}
    here = {ours: theirs for ours, theirs in columns.items() if theirs in there}
    read = [Row(row.line, mapped(row.values, here)) for row in rows]
    return CheckedFile(
        name, role, len(rows), _columns(read, here, _decimal(recipe), ("weight",)), problems=tuple(problems)
    )


def _encoding(recipe: Recipe | None) -> str:
    return "utf-8" if recipe is None else recipe.data.encoding


def _decimal(recipe: Recipe | None) -> DecimalMark:
    return "auto" if recipe is None else recipe.data.decimal


def _columns(
    rows: Sequence[Row], columns: Mapping[str, str], decimal: DecimalMark, numbers: Iterable[str]
) -> tuple[Column, ...]:
    names = dict.fromkeys(name for row in rows for name in row.values)
    return tuple(
        _column(name, columns.get(name, ""), [row.values.get(name) for row in rows], decimal, name in numbers)
        for name in names
    )


def _column(name: str, column: str, values: Sequence[Any], decimal: DecimalMark, wanted: bool) -> Column:
    there = [value for value in values if not is_missing(value)]
    missing = len(values) - len(there)
    examples = tuple(dict.fromkeys(_short(value) for value in there[: 20 * _EXAMPLES]))[:_EXAMPLES]

    def made(
        kind: Kind, form: str = "", span: Sequence[float | str] = (), counts: Mapping[str, int] | None = None
    ) -> Column:
        least, most = (min(span), max(span)) if span else (None, None)
        return Column(name, column, kind, form, len(there), missing, least, most, examples, counts or {})

    if not there:
        return made("empty")
    if name == "label":
        counts = Counter(label for value in there if (label := as_label(value)) is not None)
        return made("label", f"{len(counts)} as written", counts=dict(counts.most_common(_MOST_LABELS)))
    if name == "at":
        return _times(there, made)
    if name == "in_stock":
        stock = Counter("unknown" if (known := as_stock(value)) is None else str(known).lower() for value in there)
        return made("stock", counts=dict(stock))
    types = {type(value) for value in there}
    if types == {bool}:
        return made("truth value", counts=dict(Counter(str(value).lower() for value in there)))
    if types <= {list, dict}:
        return made("list" if types == {list} else "object" if types == {dict} else "mixed")
    if types <= {int, float}:
        return made("number", span=[float(value) for value in there if abs(value) < 1e300])
    if types <= {int, float, str} and (wanted or (str in types and name not in ("id", "group"))):
        found = settle(there, decimal)
        read = [found.read(value) for value in there if not no_number(value)]
        amounts = [amount for amount in read if amount is not None]
        if amounts and (wanted or len(amounts) == len(read)):
            return made(
                "number",
                _number_form(found.doubtful, found.mark, bool(found.shown), amounts, read),
                [amount.value for amount in amounts],
            )
    if types == {str}:
        form = "HTML" if name == "description" and any("</" in value for value in there) else ""
        return made("text", form, [float(len(value)) for value in there])
    return made("mixed", " and ".join(sorted(_type_name(kind) for kind in types)))


def _number_form(
    doubtful: str, mark: str, decided: bool, known: Sequence[Amount], read: Sequence[Amount | None]
) -> str:
    parts = [f"decimal mark unknown: {doubtful!r} fits both" if doubtful else f"decimal {mark}" if decided else ""]
    parts += sorted({amount.currency for amount in known if amount.currency})
    if others := len(read) - len(known):
        parts.append(f"{others} are none")
    return ", ".join(part for part in parts if part)


def _times(there: Sequence[Any], made: Any) -> Column:
    found = settle_times(there)
    read = [found.read(value) for value in there]
    known = [time for time in read if time is not None]
    form = f"day or month first is unknown: {found.doubtful!r}" if found.doubtful else found.name
    if others := len(read) - len(known):
        form += f", {others} are none"
    column: Column = made("time", form, known)
    return column


def _short(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _type_name(kind: type) -> str:
    return {str: "text", int: "numbers", float: "numbers", bool: "truth values", list: "lists", dict: "objects"}[kind]
