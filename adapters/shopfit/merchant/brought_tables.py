"""Tables as people bring them: lines without names of columns, cells between tabs, quotes that close nothing."""

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from shopfit.merchant.column_guesses import names_columns
from shopfit.merchant.encodings import decode
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.limits import LIMITS
from shopfit.recipe.schema import Encoding

_LOOKED_AT = 50  # lines
_LINE = re.compile(r"\r\n?|\n")
_READ_AS = "read.csv"


@dataclass(frozen=True, slots=True)
class Table:
    """A file that `read_rows` reads.

    Args:
        file: the one that was brought, or what was made of it.
        headed: whether the first line of what was brought names the columns.
        shift: lines that it has before those that were brought.
    """

    file: MerchantFile
    headed: bool
    shift: int


def as_table(folder: Path, name: str, encoding: Encoding, headed: bool | None, answers: Collection[str] = ()) -> Table:
    """A table with a name for each column.

    Args:
        folder: that it lies in, and where what is made of it goes.
        name: of the file.
        encoding: of its text.
        headed: whether its first line names the columns; None to find that out.
        answers: that rows may have; a line with one of them names no columns.

    Raises:
        NotInEncoding: if it is no text in that encoding.
        DataError: if it cannot be read.
    """
    brought = MerchantFile(folder, name, encoding)
    text = decode(brought.read(), encoding)
    delimiter = _delimiter(text)
    first, *following = itertools.islice(_cells(text[: LIMITS.row], delimiter), _LOOKED_AT) or [[]]
    if headed is None:
        headed = names_columns(first, following, answers)
    if headed and delimiter != "\t":
        return Table(brought, headed, 0)
    out = io.StringIO()
    writer = csv.writer(out, delimiter="\t", lineterminator="\n")
    shift = 0 if headed else 1
    if not headed:
        writer.writerow([f"column {number}" for number in range(1, len(first) + 1)])
    written = shift
    for line, cells in _records(text, delimiter):
        out.write("\n" * (line - 1 + shift - written))
        writer.writerow(cells)
        written = line + shift + sum(len(_LINE.findall(cell)) for cell in cells)
    (folder / _READ_AS).write_text(out.getvalue(), encoding="utf-8", newline="")
    return Table(MerchantFile(folder, _READ_AS), headed, shift)


def _delimiter(text: str) -> str:
    """What stands between cells: a tab if each of the first lines has one, else what the first line has most of."""
    lines = [line for line in _LINE.split(text[: LIMITS.row], _LOOKED_AT)[:_LOOKED_AT] if line.strip()]
    if lines and all("\t" in line for line in lines):
        return "\t"
    return max(",;\t", key=lines[0].count) if lines else ","


def _cells(text: str, delimiter: str) -> Iterator[list[str]]:
    return (cells for _, cells in _records(text, delimiter))


def _records(text: str, delimiter: str) -> Iterable[tuple[int, list[str]]]:
    """The rows of a table, each with its line; where quotes make no sense they are signs as any other."""
    csv.field_size_limit(max(csv.field_size_limit(), LIMITS.text))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    found, line = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((line, cells))
            line = reader.line_num + 1
    except csv.Error:
        plain = enumerate(_LINE.split(text), 1)
        return [(line, row.split(delimiter)) for line, row in plain if row.strip()]
    return found
