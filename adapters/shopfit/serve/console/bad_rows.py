"""What is wrong with a file that was brought: equal problems told once, and all of it as a table with the rows."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from shopfit.merchant.brought import BadRow, Brought

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class BadRows(NamedTuple):
    """A problem that rows share.

    Args:
        lines: of the file; none if it is about all of it.
        field: that is meant; empty if it is about all of the row.
        what: is wrong.
        allowed: what would be accepted; empty if `what` says it.
    """

    lines: tuple[int, ...]
    field: str
    what: str
    allowed: str


def together(bad: Sequence[BadRow]) -> list[BadRows]:
    """Equal problems of several rows as one, in the order of their first rows."""
    lines: dict[tuple[str, str, str], list[int]] = {}
    for one in bad:
        found = lines.setdefault((one.field, one.what, one.allowed), [])
        if one.line is not None:
            found.append(one.line)
    return [BadRows(tuple(found), *told) for told, found in lines.items()]


def as_table(found: Brought) -> str:
    """Everything that is wrong with a file as CSV, each with the cells of its row."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["line", "field", "reason", "allowed", *map(_harmless, found.columns)])
    for one in found.bad:
        cells = found.bad_cells.get(one.line, {}) if one.line is not None else {}
        row = [_as_cell(cells.get(column)) for column in found.columns]
        writer.writerow(["" if one.line is None else one.line, *map(_harmless, (*one[1:], *row))])
    return out.getvalue()


def _as_cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _harmless(cell: str) -> str:
    """A cell that no table program takes for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
