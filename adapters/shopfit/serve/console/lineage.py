"""Where the versions of an adapter come from, as a drawing: boxes and lines with their places, for an SVG.

Versions stand in a row by number. Above them stand starters and other adapters that they started from; a line below the
row leads from an earlier version of the same adapter; a dashed line above it leads from the version that was in
production to the one that came after it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from shopfit.registry import AuditEntry, Version
from shopfit.serve.console.registry_table import references

MOST = 30
"""Versions that are drawn: the newest."""

_COLUMN, _WIDTH, _HEIGHT, _MARGIN = 190, 168, 56, 16
_ABOVE, _ARCS, _LEAST_ARC, _DEEPER = 96, 34, 28, 6
_IN_PRODUCTION = re.compile(r"@production: (?:\d+|none) -> (\d+)")


@dataclass(frozen=True, slots=True)
class Box:
    """A version, or what one started from.

    Args:
        name: reference of it.
        version: of the adapter; None for one of another.
        x: of its left edge.
        y: of its upper edge.
    """

    name: str
    version: Version | None
    x: int
    y: int
    width: int = _WIDTH
    height: int = _HEIGHT


@dataclass(frozen=True, slots=True)
class Line:
    """From one box to another.

    Args:
        kind: "start" or "after", as in production after.
        path: of SVG.
    """

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Lineage:
    """The drawing.

    Args:
        boxes: of all.
        lines: between them.
        width: of all.
        height: of all.
    """

    boxes: list[Box]
    lines: list[Line]
    width: int
    height: int

    @property
    def kinds(self) -> set[str]:
        """Those of the lines that are there."""
        return {line.kind for line in self.lines}


def in_production(audit: Sequence[AuditEntry]) -> list[int]:
    """Numbers of the versions that were in production, in that order.

    Args:
        audit: of the adapter, oldest first.
    """
    found = [int(match[1]) for one in audit if (match := _IN_PRODUCTION.search(one.detail))]
    return [number for place, number in enumerate(found) if place == 0 or found[place - 1] != number]


def lineage(versions: Sequence[Version], starts: Mapping[int, str], production: Sequence[int]) -> Lineage:
    """Draw versions of one adapter.

    Args:
        versions: of it, by number.
        starts: what each one started from, in words with references, by number.
        production: numbers of those that were in production, in that order.
    """
    drawn = versions[-MOST:]
    outside = _outside(drawn, starts)
    columns = {version.number: place for place, version in enumerate(drawn)}
    moves = [(before, after) for before, after in pairwise(production) if before in columns and after in columns]
    top = _MARGIN + (_ABOVE if outside else 0) + (_ARCS if outside or moves else 0)
    boxes = {version.name: Box(version.name, version, _x(columns[version.number]), top) for version in drawn}
    boxes |= {name: Box(name, None, _x(column), _MARGIN) for name, column in outside.items()}
    lines, deepest = [], 0
    for version in drawn:
        target = boxes[version.name]
        for name in references(starts.get(version.number, "")):
            if (source := boxes.get(name)) is None:
                continue
            if source.version is None:
                lines.append(Line("start", _down(source, target)))
            elif source is not target:
                depth = _LEAST_ARC + _DEEPER * abs(columns[version.number] - columns[source.version.number])
                deepest = max(deepest, depth)
                lines.append(Line("start", _below(source, target, depth)))
    row = {version.number: boxes[version.name] for version in drawn}
    lines += [Line("after", _over(row[before], row[after])) for before, after in moves]
    width = 2 * _MARGIN + _COLUMN * max(len(drawn), 1 + max(outside.values(), default=0)) - (_COLUMN - _WIDTH)
    return Lineage(list(boxes.values()), lines, width, top + _HEIGHT + deepest + _MARGIN)


def _outside(drawn: Sequence[Version], starts: Mapping[int, str]) -> dict[str, int]:
    """What is not of the adapter, each in a column of its own: that of the first version that needs it, if free."""
    own = {version.name for version in drawn}
    adapter = f"{drawn[0].merchant}/{drawn[0].recipe}@" if drawn else ""
    columns: dict[str, int] = {}
    for place, version in enumerate(drawn):
        for name in references(starts.get(version.number, "")):
            if name in own or name in columns or name.startswith(adapter):
                continue
            column = place
            while column in columns.values():
                column += 1
            columns[name] = column
    return columns


def _x(column: int) -> int:
    return _MARGIN + _COLUMN * column


def _middle(box: Box) -> int:
    return box.x + box.width // 2


def _down(source: Box, target: Box) -> str:
    bend = (source.y + source.height + target.y) // 2
    start, end = _middle(source), _middle(target) - 24
    return f"M{start} {source.y + source.height} C{start} {bend} {end} {bend} {end} {target.y - 3}"


def _below(source: Box, target: Box, depth: int) -> str:
    low = source.y + source.height
    start, end = _middle(source), _middle(target)
    return f"M{start} {low} C{start} {low + depth} {end} {low + depth} {end} {low + 3}"


def _over(source: Box, target: Box) -> str:
    start, end = _middle(source) + 24, _middle(target) + 24
    return f"M{start} {source.y} C{start} {source.y - _ARCS} {end} {target.y - _ARCS} {end} {target.y - 3}"
