"""From a file to rows: JSON lines, CSV, Parquet, or a folder written by `datasets`.

Knows formats, not fields: what a row must hold is for `examples` and `catalog`. Whatever the format, a row's values
are those JSON can hold, and a file holds no more than `limits` allow.
"""

import csv
import json
import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shopfit.errors import DataError, Problem
from shopfit.merchant.encodings import NotInEncoding, decode
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.limits import LIMITS, BadValue, Budget, Limits, TooMuch
from shopfit.merchant.unpacking import Unreadable, unpack
from shopfit.recipe.suggestions import shown

Cell = Literal["list", "number", "flag", "json"]
Cells = Mapping[str, Cell]

_LONGEST_NAME = 100  # characters of a column's name that a message shows
_HALF = "holds half a character (a lone surrogate such as \\ud83d)"
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_CELL_FORMS: dict[Cell, str] = {
    "list": "a JSON list, or parts between |",
    "number": "a number",
    "flag": "true, false",
    "json": "a JSON object, or text",
}
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file.

    Args:
        line: its line, from 1; in Parquet files and dataset folders its number.
        values: column name: value; empty cells of a CSV file are left out.
    """

    line: int
    values: dict[str, Any]


def read_rows(
    file: MerchantFile | Path,
    *,
    cells: Cells | None = None,
    problems: list[Problem] | None = None,
    limits: Limits = LIMITS,
) -> list[Row]:
    """Every row of a file that can be read.

    Args:
        file: .jsonl or .json (one object a line), .csv, .parquet, or a folder written by `datasets.save_to_disk`. Of a
            path, nothing outside the folder it lies in is read.
        cells: what the named columns of a CSV file hold, where it is not text: "list" is a JSON list or parts between
            `|`, "number", "flag" (true or false) or "json" (an object, else text). Other formats have their own types.
        problems: where mistakes go; without it they are raised.
        limits: how much the file may hold.

    Raises:
        DataError: if the file is missing, of another kind or outside its merchant's folder; without `problems`, for
            bad rows too.
    """
    if isinstance(file, Path):
        file = MerchantFile.at(file)
    found: list[Problem] = []
    rows: list[Row] = []
    budget = Budget(limits)
    line: int | None = None
    try:
        with closing(_reader(file)(file, cells or {}, budget)) as items:
            for item in items:
                if isinstance(item, Problem):
                    found.append(item)
                else:
                    line = item.line
                    rows.append(item)
                    try:
                        budget.take(item.values)
                    except BadValue as error:
                        found.append(_bad(file, line, error))
                        rows.pop()
                if len(found) > limits.problems:
                    raise TooMuch(f"is left unread from here on, after {len(found)} problems", "")
        if not rows and not found:
            found.append(Problem(str(file), "has no rows"))
    except NotInEncoding as error:
        found.append(Problem(_at(file, error.line), error.what, error.allowed))
    except Unreadable as error:
        found.append(Problem(f"{file}{error.part}", error.what, error.allowed))
    except TooMuch as error:
        found.append(Problem(_at(file, line), error.what, error.allowed))
    if problems is not None:
        problems.extend(found)
    elif found:
        raise DataError(f"{file} cannot be read", problems=found, next_step="correct the rows named above")
    return rows


def given_rows(values: Iterable[object], name: str, problems: list[Problem], limits: Limits = LIMITS) -> list[Row]:
    """Every row of those that a program gives that can be read, as if a file held it as a line of JSON.

    Args:
        values: mappings of names to what JSON can hold.
        name: what they are, for messages.
        problems: where mistakes go.
        limits: how much they may hold.
    """
    rows: list[Row] = []
    budget = Budget(limits)
    try:
        for line, value in enumerate(values, 1):
            try:
                row = _json_row(value, limits)
                budget.take(row)
            except BadValue as error:
                problems.append(_bad(name, line, error))
            else:
                rows.append(Row(line, row))
            if len(problems) > limits.problems:
                raise TooMuch(f"is left unread from here on, after {len(problems)} problems", "")
    except TooMuch as error:
        problems.append(Problem(_at(name, len(rows)), error.what, error.allowed))
    if not rows and not problems:
        problems.append(Problem(name, "has no rows"))
    return rows


def _json_row(value: object, limits: Limits) -> dict[str, Any]:
    """A row as reading its JSON gives it.

    Raises:
        BadValue: if JSON cannot hold it, or it is too long for one.
    """
    if not isinstance(value, Mapping):
        raise BadValue(f"{shown(value)} is no row", 'an object, such as {"id": "1", "title": "Tent"}')
    if not all(isinstance(key, str) for key in value):
        raise BadValue("has a name that is no text", "names and their values")
    try:
        text = json.dumps(dict(value), ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        raise BadValue(_HALF) from None
    except (TypeError, ValueError, RecursionError):
        raise BadValue("holds what JSON cannot hold", "texts, numbers, truth values, lists and objects") from None
    if len(text) > limits.row:
        raise BadValue(f"has {len(text)} characters", f"at most {limits.row} a row")
    row: dict[str, Any] = _json(text)
    return row


Items = Generator[Row | Problem, None, None]
Reader = Callable[[MerchantFile, Cells, Budget], Items]


def _reader(file: MerchantFile) -> Reader:
    if file.is_folder():
        return _unpacked
    if not file.exists():
        raise file.missing()
    match file.suffix:
        case ".jsonl" | ".json":
            return _json_lines
        case ".csv":
            return _csv
        case ".parquet":
            return _unpacked
    raise DataError(
        f"{file} is of a kind that is not read",
        next_step=f"convert it to one of {', '.join(SUFFIXES)} or a folder written by `datasets`",
    )


def _unpacked(file: MerchantFile, cells: Cells, budget: Budget) -> Items:  # noqa: ARG001 - has types
    for number, row in unpack(file, budget.limits):
        yield Problem(_at(file, number), row[0], row[1]) if isinstance(row, tuple) else Row(number, row)


def _json_lines(file: MerchantFile, cells: Cells, budget: Budget) -> Items:  # noqa: ARG001 - has types
    # not splitlines: U+2028 and its kin are legal inside JSON text
    for line, text in enumerate(_lines(decode(file.read(), file.encoding), _JSON_LINE), 1):
        if not text.strip():
            continue
        if len(text) > budget.limits.row:
            yield Problem(_at(file, line), f"has {len(text)} characters", f"at most {budget.limits.row} a row")
            continue
        try:
            row = _json(text)
        except json.JSONDecodeError as error:
            yield Problem(_at(file, line), f"is not JSON: {error.msg} at column {error.colno}", "one object a line")
        except BadValue as error:
            yield _bad(file, line, error)
        else:
            if isinstance(row, dict):
                yield Row(line, row)
            else:
                kind = "a list" if isinstance(row, list) else shown(row)
                yield Problem(_at(file, line), f"is {kind}, not an object", 'one object a line, such as {"text": "…"}')


def _json(text: str) -> Any:
    """A JSON value; NaN, which pandas writes for an empty cell, is null."""
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError:
        raise
    except UnicodeEncodeError:
        raise BadValue(_HALF) from None
    except (BadValue, RecursionError) as error:
        raise error if isinstance(error, BadValue) else BadValue("is nested too deep") from None
    except ValueError:  # the language's limit
        raise BadValue("holds a number too long to read") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise BadValue(f"names {shown(_twice(name for name, _ in pairs))} twice")
    return row


def _twice(names: Iterable[str]) -> str:
    """The first name that stands a second time."""
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _constant(name: str) -> None:
    if name != "NaN":
        raise BadValue(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise BadValue(f"holds {shown(text)[1:-1]}, which is too large")
    return number


def _csv(file: MerchantFile, cells: Cells, budget: Budget) -> Items:
    text = decode(file.read(), file.encoding)
    limits = budget.limits
    start = len(text) - len(text.lstrip("\r\n"))
    header = text[start : start + limits.row].partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    csv.field_size_limit(max(csv.field_size_limit(), limits.text))
    record = _Record(limits.row)
    reader = csv.reader(record.lines(text), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        for values in reader:
            record.length = 0
            if not any(value.strip() for value in values):
                pass
            elif not names:
                names = _header(values, budget)
            elif len(values) != len(names):
                yield Problem(_at(file, line), f"has {len(values)} cells", f"{len(names)}, as in the first line")
            else:
                yield from _csv_row(file, line, dict(zip(names, values, strict=True)), cells)
            line = reader.line_num + 1
    except csv.Error as error:
        if "field limit" in str(error):
            yield Problem(_at(file, line), "holds a longer text than is read", f"at most {limits.text} characters")
        else:
            yield Problem(_at(file, line), f"is not CSV: {error}")
    except BadValue as error:
        yield _bad(file, line, error)


@dataclass(slots=True)
class _Record:
    """The lines that make up one row of a CSV file, which quotes may hold together.

    Args:
        longest: characters it may have.
        length: those read of it.
    """

    longest: int
    length: int = 0

    def lines(self, text: str) -> Iterator[str]:
        for line in _lines(text, _CSV_LINE):
            self.length += len(line)
            if self.length > self.longest:
                raise BadValue(f"begins a row of more than {self.longest} characters; is a quote not closed?")
            yield line


def _header(names: list[str], budget: Budget) -> list[str]:
    names = [name.strip() for name in names]
    if not all(names):
        raise BadValue(f"column {names.index('') + 1} has no name")
    if len(set(names)) < len(names):
        raise BadValue(f"names column {shown(_twice(names))} twice")
    budget.add_columns(names)
    return names


def _csv_row(file: MerchantFile, line: int, texts: dict[str, str], cells: Cells) -> Iterator[Row | Problem]:
    values, bad = {}, False
    for name, text in texts.items():
        if not text.strip():
            continue
        try:
            values[name] = _cell(text, cells[name]) if name in cells else text
        except ValueError:
            bad = True
            yield Problem(f"{_at(file, line)} {name}", f"{shown(text)} is not accepted", _CELL_FORMS[cells[name]])
    if not bad:
        yield Row(line, values)


def _cell(text: str, kind: Cell) -> Any:
    text = text.strip()
    match kind:
        case "number":
            number = _finite(text)
            return None if math.isnan(number) else number
        case "flag":
            if text.casefold() not in _FLAGS:
                raise BadValue
            return _FLAGS[text.casefold()]
        case "json":
            return _json(text) if text.startswith("{") else text
        case "list" if text.startswith("["):
            return _json(text)
        case "list":
            return [part.strip() for part in text.split("|") if part.strip()]


_JSON_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_CSV_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")


def _lines(text: str, line: re.Pattern[str]) -> Iterator[str]:
    """One line after the other, so that a large file is not held twice."""
    return (found[0] for found in line.finditer(text))


def _bad(file: MerchantFile | str, line: int, error: BadValue) -> Problem:
    name = f" {error.name if len(error.name) <= _LONGEST_NAME else shown(error.name)}" if error.name else ""
    return Problem(f"{_at(file, line)}{name}", error.what, error.allowed)


def _at(file: MerchantFile | str, line: int | None) -> str:
    return str(file) if line is None else f"{file}:{line}"
