"""A file that somebody brings for a merchant: its columns, every row that is bad, and the good ones in our own form."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from shopfit.errors import DataError, Problem
from shopfit.merchant.brought_tables import Table, as_table
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.catalog_reading import FIELDS, read_catalog
from shopfit.merchant.column_guesses import Wanted, guess_columns, wanted_of_catalogs, wanted_of_examples
from shopfit.merchant.encodings import NotInEncoding, guesses
from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.exports import of_export
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.label_meanings import LEFT_OUT, LabelValue, are_stars, label_values
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import Row, read_rows
from shopfit.merchant.values import as_label, is_missing
from shopfit.recipe.label_spelling import label_key
from shopfit.recipe.schema import DecimalMark, Encoding, Recipe

Kind = Literal["examples", "test", "catalog", "history"]
"""What a file holds: rows to learn from, rows to test on, what is ranked, or what histories name."""

_CHOSEN = "chosen.jsonl"
_FIRST = 8  # rows that are shown
_PASSES = 4  # a row that is left out may be all that kept another from being bad


class Catalogs(NamedTuple):
    """What the ids of examples name."""

    catalog: Catalog | None = None
    history: Catalog | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is read.

    Args:
        encoding: of its text.
        headed: whether its first line names the columns; None to find that out.
        columns: by field, its column; None to guess.
        decimal: what stands before the decimals of numbers; "auto" to settle it from all of a column.
        meanings: by key of a label column's value, the recipe's label, `LEFT_OUT` or None where nobody can say; the
            obvious is guessed for all others.
    """

    encoding: Encoding = "utf-8"
    decimal: DecimalMark = "auto"
    headed: bool | None = None
    columns: Mapping[str, str] | None = None
    meanings: Mapping[str, str | None] | None = None


class BadRow(NamedTuple):
    """Something that keeps a row, or all of a file, from being used.

    Args:
        line: of the file, from 1; None if it is about all of it.
        field: that is meant; empty if it is about all of the row.
        what: the value and what is wrong with it.
        allowed: what would be accepted; empty if `what` says it.
    """

    line: int | None
    field: str
    what: str
    allowed: str


@dataclass(frozen=True, slots=True)
class Brought:
    """A file, as it was read.

    Args:
        columns: of it, in order.
        chosen: by field, its column.
        wanted: fields that may be chosen for.
        rows: how many were read, the bad ones included.
        first: some of them, as they are.
        bad: everything that is wrong, by line.
        bad_cells: of the rows that are bad, by line and column, as they are.
        ours: the good rows, in our form.
        unlabeled: rows that are good but for their answer, which they lack; in our form.
        unanswered: the answer's field, if no column is chosen for it and people can give it where they label: then all
            rows lack it. Empty otherwise.
        copies: rows that repeat another one.
        headed: whether the first line names the columns; None where that is no question.
        export: the shop system that wrote it; empty for none.
        values: of the label column that are none of the recipe's labels, with what they mean.
        unwanted: rows that are left out, as their label is.
        stars: whether the labels look like ratings.
        likely: the encodings that it may be in, if it is not in the one it was read in; one alone where it is clear.
    """

    columns: tuple[str, ...] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    wanted: tuple[Wanted, ...] = ()
    rows: int = 0
    first: tuple[Row, ...] = ()
    bad: tuple[BadRow, ...] = ()
    bad_cells: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    ours: Sequence[Mapping[str, Any]] = ()
    unlabeled: Sequence[Mapping[str, Any]] = ()
    unanswered: str = ""
    copies: int = 0
    headed: bool | None = None
    export: str = ""
    likely: tuple[str, ...] = ()
    values: tuple[LabelValue, ...] = ()
    unwanted: int = 0
    stars: bool = False

    @property
    def bad_lines(self) -> int:
        """Rows that cannot be used."""
        return len({one.line for one in self.bad if one.line is not None})

    @property
    def usable(self) -> bool:
        """Whether it has good rows, and nothing is wrong but with single ones."""
        return bool(self.ours or self.unlabeled) and all(one.line is not None for one in self.bad)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Columns that no field is read from."""
        return tuple(name for name in self.columns if name not in self.chosen.values())


def read_brought(folder: Path, name: str, kind: Kind, recipe: Recipe, reading: Reading, catalogs: Catalogs) -> Brought:
    """Read a file that was brought.

    Args:
        folder: that it lies in, alone; what is made of it on the way goes there, too.
        name: of the file.
        kind: what it holds.
        recipe: that it is for.
        reading: how it is read.
        catalogs: that the ids of examples are in.

    Raises:
        DataError: if nothing of it can be read.
    """
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"decimal": reading.decimal})})
    wanted = wanted_of_catalogs() if _is_catalog(kind) else wanted_of_examples(recipe)
    try:
        table = _table(folder, name, recipe, reading)
    except NotInEncoding as error:
        other = BadRow(error.line, "", error.what, "")
        return Brought(wanted=wanted, bad=(other,), likely=guesses(MerchantFile(folder, name).read()))
    headed = table.headed if name.endswith(".csv") else None
    problems: list[Problem] = []
    rows = read_rows(table.file, problems=problems)
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    export = of_export(rows, FIELDS) if _is_catalog(kind) else None
    if reading.columns is not None:
        chosen = {ours: theirs for ours, theirs in reading.columns.items() if theirs in columns}
    else:
        chosen = (
            {}
            if export
            else guess_columns(rows, columns, wanted, catalog=_is_catalog(kind), answers=recipe.prompt.labels)
        )
    if not _is_catalog(kind):  # now that it is known which of them hold lists
        problems = []
        cells = {chosen[ours]: cell for ours, cell in _cells(recipe).items() if ours in chosen}
        rows = read_rows(table.file, cells=cells, problems=problems)
    bad: list[BadRow] = [_of_line(table, one) for one in problems]
    found = Brought(
        columns,
        chosen,
        wanted,
        rows=len(rows) + len({one.line for one in bad if one.line is not None}),
        first=tuple(replace(row, line=row.line - table.shift) for row in rows[:_FIRST]),
        headed=headed,
        export=export.name if export else "",
    )
    missing = [one.name for one in wanted if one.needed and one.name not in chosen and not export]
    if missing == [recipe.spec.answer] and _can_wait(kind, recipe):
        found = replace(found, unanswered=recipe.spec.answer)
    elif missing or not rows:
        bad += [BadRow(None, missed, "no column is chosen", "") for missed in missing if rows]
        return replace(found, bad=tuple(bad))
    named = [_as_chosen(row, chosen, kind) for row in rows]
    if not _is_catalog(kind):
        found, recipe, named = _understood(found, recipe, named, reading)
    waiting = [row for row in named if _waits(row, kind, recipe)]
    named = [row for row in named if not _waits(row, kind, recipe)]
    ours, more, copies = _checked(folder, named, chosen, kind, recipe, catalogs) if named else ((), [], 0)
    if waiting:
        unlabeled, of_these, again = _checked(folder, waiting, chosen, kind, recipe, catalogs, labelled=False)
        found, more, copies = replace(found, unlabeled=unlabeled), more + of_these, copies + again
    bad += [one._replace(line=None if one.line is None else one.line - table.shift) for one in more]
    ordered = sorted(bad, key=lambda one: -1 if one.line is None else one.line)
    lines = {one.line for one in ordered}
    as_they_are = {line: row.values for row in rows if (line := row.line - table.shift) in lines}
    return replace(found, bad=tuple(ordered), bad_cells=as_they_are, ours=ours, copies=copies)


def _is_catalog(kind: Kind) -> bool:
    return kind in ("catalog", "history")


def _table(folder: Path, name: str, recipe: Recipe, reading: Reading) -> Table:
    if name.endswith(".csv"):
        return as_table(folder, name, reading.encoding, reading.headed, recipe.prompt.labels)
    return Table(MerchantFile(folder, name, reading.encoding), headed=True, shift=0)


def _cells(recipe: Recipe) -> dict[str, Any]:
    return dict.fromkeys(recipe.data.item_fields, "list") | dict(recipe.spec.cells)


def _as_chosen(row: Row, chosen: Mapping[str, str], kind: Kind) -> Row:
    """A row under our names; of a catalog all else that it says is kept."""
    named = {ours: row.values[theirs] for ours, theirs in chosen.items() if theirs in row.values}
    if not _is_catalog(kind):
        return Row(row.line, named)
    taken = set(chosen.values())
    ours = set(FIELDS) if chosen else set()  # a column that is not chosen is not read, whatever its name
    kept = {name: value for name, value in row.values.items() if name not in taken and name not in ours}
    return Row(row.line, kept | named)


def _understood(
    found: Brought, recipe: Recipe, rows: Sequence[Row], reading: Reading
) -> tuple[Brought, Recipe, list[Row]]:
    """The recipe with what the file's labels mean, and the rows that are wanted."""
    answer = recipe.spec.answer
    labels = [row.values.get(answer) for row in rows]
    values = label_values(labels, recipe, reading.meanings)
    meanings = {one.key: one.label for one in values}
    aliases = recipe.data.label_aliases | {one.value: one.label for one in values if one.label}
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"label_aliases": aliases})})
    wanted = [
        row
        for row, label in zip(rows, map(as_label, labels), strict=True)
        if label is None or meanings.get(label_key(label)) != LEFT_OUT
    ]
    stars = bool(values) and are_stars(labels)
    return replace(found, values=values, unwanted=len(rows) - len(wanted), stars=stars), recipe, wanted


def _waits(row: Row, kind: Kind, recipe: Recipe) -> bool:
    """Whether a row lacks an answer that people can give on the page where they label."""
    return _can_wait(kind, recipe) and is_missing(row.values.get(recipe.spec.answer))


def _can_wait(kind: Kind, recipe: Recipe) -> bool:
    return kind == "examples" and recipe.spec.kind in ("label", "number")


def _checked(
    folder: Path,
    rows: Sequence[Row],
    chosen: Mapping[str, str],
    kind: Kind,
    recipe: Recipe,
    catalogs: Catalogs,
    *,
    labelled: bool = True,
) -> tuple[Sequence[Mapping[str, Any]], list[BadRow], int]:
    """The good rows in our form, what is wrong with the others, and how many repeat another."""
    plain = recipe.data.model_copy(update={"columns": {}, "encoding": "utf-8"})
    recipe = recipe.model_copy(update={"data": plain})
    bad: list[BadRow] = []
    file = MerchantFile(folder, _CHOSEN)
    for _ in range(_PASSES):
        text = "".join(json.dumps(row.values, ensure_ascii=False) + "\n" for row in rows)
        (folder / _CHOSEN).write_text(text, encoding="utf-8")
        try:
            if _is_catalog(kind):
                items = read_catalog(file, recipe)
                return [dict(item.fields) for item in items.values()], bad, 0
            shop = Merchant(name="brought", folder=folder)
            found = load_examples(
                shop, recipe, _CHOSEN, catalog=catalogs.catalog, history=catalogs.history, labelled=labelled
            )
        except DataError as error:
            if not error.problems:
                raise
            new = [_of_row(one, str(file), rows, chosen) for one in error.problems]
            bad += new
            lines = {one.line for one in new}
            rows = [row for row in rows if row.line not in lines]
            if None in lines or not rows:
                return (), bad, 0
        else:
            return [_in_our_form(one, recipe, "id" in chosen) for one in found], bad, len(rows) - len(found)
    return (), bad, 0


def _in_our_form(example: Example, recipe: Recipe, named: bool) -> dict[str, Any]:
    """An example as a line of our own files."""
    spec = recipe.spec
    answer: Any = getattr(example, spec.answer)
    row: dict[str, Any] = {"id": example.id} if named else {}
    row |= {name: list(value) if isinstance(value, tuple) else value for name, value in example.fields.items()}
    if answer is not None:
        row[spec.answer] = list(answer) if isinstance(answer, tuple) else answer
    if example.candidates is not None:
        row["candidates"] = list(example.candidates)
    more = {"group": example.group, "at": example.at, "weight": example.weight if example.weight != 1 else None}
    return row | {name: value for name, value in more.items() if value is not None}


def _of_line(table: Table, problem: Problem) -> BadRow:
    """What was found when the file was read."""
    line, name = _place(problem, str(table.file))
    what = problem.what.replace(f"{table.file}:", "")
    return BadRow(None if line is None else max(1, line - table.shift), name, what, problem.allowed)


def _of_row(problem: Problem, file: str, rows: Sequence[Row], chosen: Mapping[str, str]) -> BadRow:
    """What was found when a row was checked; in its place is the line that it came from."""
    number, name = _place(problem, file)
    line = rows[number - 1].line if number is not None and number <= len(rows) else None
    shown = f"{name} ({chosen[name]})" if chosen.get(name, name) != name else name
    what = re.sub(rf"{re.escape(file)}:(\d+)", lambda found: f"line {rows[int(found[1]) - 1].line}", problem.what)
    what = re.sub(r"line (\d+) too$", r"an earlier row", what) if " is the id of " in what else what
    allowed = problem.allowed.partition("; or what it means, in data.")[0]
    allowed = "" if "data." in allowed else allowed  # what to write into a recipe, which nobody writes here
    what = what.replace("is not in prompt.labels", "is none of the labels")
    return BadRow(line, shown, what, allowed)


def _place(problem: Problem, file: str) -> tuple[int | None, str]:
    rest = problem.where.removeprefix(file)
    found = re.fullmatch(r":(\d+)(?: (.*))?", rest, re.DOTALL)
    return (int(found[1]), found[2] or "") if found else (None, rest.strip())
