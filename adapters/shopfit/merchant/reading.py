"""From a file to rows: JSON lines, CSV, Parquet, or a folder written by `datasets`.

Knows formats, not fields: what a row must hold is for `examples` and `catalog`. Whatever the format, a row's values
are those JSON can hold.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from shopfit.errors import DataError, Problem
from shopfit.recipe.suggestions import did_you_mean, shown

Cell = Literal["list", "number", "flag", "json"]
Cells = Mapping[str, Cell]

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


class _BadFile(Exception):  # noqa: N818 - caught in this file
    """The rest of a file cannot be read."""

    def __init__(self, line: int | None, what: str, allowed: str = "") -> None:
        super().__init__(what)
        self.line, self.what, self.allowed = line, what, allowed


class _BadValue(ValueError):  # noqa: N818 - caught in this file
    """A value that no row may hold."""


def read_rows(path: Path, *, cells: Cells | None = None, problems: list[Problem] | None = None) -> list[Row]:
    """Every row of a file that can be read.

    Args:
        path: .jsonl or .json (one object a line), .csv, .parquet, or a folder written by `datasets.save_to_disk`.
        cells: what the named columns of a CSV file hold, where it is not text: "list" is a JSON list or parts between
            `|`, "number", "flag" (true or false) or "json" (an object, else text). Other formats have their own types.
        problems: where mistakes go; without it they are raised.

    Raises:
        DataError: if the file is missing or of another kind; without `problems`, for bad rows too.
    """
    found: list[Problem] = []
    rows = []
    try:
        for item in _reader(path)(path, cells or {}):
            if isinstance(item, Problem):
                found.append(item)
            else:
                rows.append(item)
        if not rows and not found:
            found.append(Problem(str(path), "has no rows"))
    except _BadFile as error:
        found.append(Problem(_at(path, error.line), error.what, error.allowed))
    if problems is not None:
        problems.extend(found)
    elif found:
        raise DataError(f"{path} cannot be read", problems=found, next_step="correct the rows named above")
    return rows


Reader = Callable[[Path, Cells], Iterator[Row | Problem]]


def _reader(path: Path) -> Reader:
    if path.is_dir():
        return _dataset
    if not path.exists():
        names = [near.name for near in path.parent.glob("*")] if path.parent.is_dir() else []
        raise DataError(
            f"there is no file {path}{did_you_mean(path.name, names)}",
            next_step="put it there, or name another one in the recipe's `data` section",
        )
    if not path.is_file():
        raise DataError(f"{path} is not a file")
    match path.suffix:
        case ".jsonl" | ".json":
            return _json_lines
        case ".csv":
            return _csv
        case ".parquet":
            return _parquet
    raise DataError(
        f"{path} is of a kind that is not read",
        next_step=f"convert it to one of {', '.join(SUFFIXES)} or a folder written by `datasets`",
    )


def _json_lines(path: Path, cells: Cells) -> Iterator[Row | Problem]:  # noqa: ARG001 - JSON has types
    # not splitlines: U+2028 and its kin are legal inside JSON text
    for line, text in enumerate(_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
            if "\\u" in text:
                json.dumps(row, ensure_ascii=False).encode()
        except json.JSONDecodeError as error:
            yield Problem(_at(path, line), f"is not JSON: {error.msg} at column {error.colno}", "one object a line")
        except _BadValue as error:
            yield Problem(_at(path, line), str(error))
        except UnicodeEncodeError:
            yield Problem(_at(path, line), "holds half a character (a lone surrogate such as \\ud83d)")
        except (ValueError, RecursionError):
            yield Problem(_at(path, line), "holds a number too long, or nesting too deep, to read")
        else:
            if isinstance(row, dict):
                yield Row(line, row)
            else:
                kind = "a list" if isinstance(row, list) else shown(row)
                yield Problem(_at(path, line), f"is {kind}, not an object", 'one object a line, such as {"text": "…"}')


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _BadValue(f"names {next(name for name in names if names.count(name) > 1)!r} twice")
    return row


def _no_constant(name: str) -> Any:
    raise _BadValue(f"holds {name}, which is not JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise _BadValue(f"holds {text}, which is too large")
    return number


def _csv(path: Path, cells: Cells) -> Iterator[Row | Problem]:
    text = _text(path)
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                pass
            elif not names:
                names = _header(values, line)
            elif len(values) != len(names):
                yield Problem(_at(path, line), f"has {len(values)} cells", f"{len(names)}, as in the first line")
            else:
                yield from _csv_row(path, line, dict(zip(names, values, strict=True)), cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise _BadFile(line, f"is not CSV: {error}") from None


def _header(names: list[str], line: int) -> list[str]:
    names = [name.strip() for name in names]
    if not all(names):
        raise _BadFile(line, f"column {names.index('') + 1} has no name")
    if len(set(names)) < len(names):
        raise _BadFile(line, f"names column {next(name for name in names if names.count(name) > 1)!r} twice")
    return names


def _csv_row(path: Path, line: int, texts: dict[str, str], cells: Cells) -> Iterator[Row | Problem]:
    values, bad = {}, False
    for name, text in texts.items():
        if not text.strip():
            continue
        try:
            values[name] = _cell(text, cells[name]) if name in cells else text
        except (ValueError, RecursionError):
            bad = True
            yield Problem(f"{_at(path, line)} {name}", f"{shown(text)} is not accepted", _CELL_FORMS[cells[name]])
    if not bad:
        yield Row(line, values)


def _cell(text: str, kind: Cell) -> Any:
    text = text.strip()
    match kind:
        case "number":
            return _finite(text)
        case "flag":
            if text.casefold() not in _FLAGS:
                raise _BadValue
            return _FLAGS[text.casefold()]
        case "json":
            return json.loads(text) if text.startswith("{") else text
        case "list" if text.startswith("["):
            return json.loads(text)
        case "list":
            return [part.strip() for part in text.split("|") if part.strip()]


def _parquet(path: Path, cells: Cells) -> Iterator[Row | Problem]:  # noqa: ARG001 - Parquet has types
    from pyarrow import ArrowException, parquet

    try:
        rows = parquet.ParquetFile(path).read().to_pylist()
    except (ArrowException, OSError) as error:
        raise _BadFile(None, f"is not Parquet: {str(error).splitlines()[0]}") from None
    yield from _plain_rows(path, rows)


def _dataset(path: Path, cells: Cells) -> Iterator[Row | Problem]:  # noqa: ARG001 - a dataset has types
    if (path / "dataset_dict.json").is_file():
        splits = sorted(part.name for part in path.iterdir() if part.is_dir())
        raise _BadFile(None, "holds several splits", " or ".join(f"{path.name}/{name}" for name in splits))
    if not (path / "dataset_info.json").is_file():
        raise _BadFile(None, "is a folder that `datasets` did not write", "a file, or what `save_to_disk` writes")
    from datasets import load_from_disk

    try:
        rows = load_from_disk(str(path))
    except Exception as error:  # the library's own errors are of many classes
        raise _BadFile(None, f"cannot be loaded by `datasets`: {error}") from error
    yield from _plain_rows(path, rows)


def _plain_rows(path: Path, rows: Any) -> Iterator[Row | Problem]:
    for number, row in enumerate(rows, 1):
        try:
            yield Row(number, {name: _plain(value) for name, value in row.items()})
        except _BadValue as error:
            yield Problem(_at(path, number), f"holds {error}", "text, numbers, lists, objects and times")


def _plain(value: Any) -> Any:
    """A value as JSON would hold it; tables write a missing number as NaN."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isinf(value):
                raise _BadValue("an infinite number")
            return None if math.isnan(value) else value
        case Decimal():
            return _plain(float(value))
        case datetime() | date() | time():
            return value.isoformat()
        case dict():
            return {str(name): _plain(part) for name, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
    raise _BadValue(f"a value of type {type(value).__name__}")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _BadFile(None, f"cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _BadFile(line, f"byte 0x{content[error.start]:02x} is not UTF-8", "a file saved as UTF-8") from None


def _at(path: Path, line: int | None) -> str:
    return str(path) if line is None else f"{path}:{line}"
