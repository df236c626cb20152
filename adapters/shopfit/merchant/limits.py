"""How much a file may hold: a small file must not cost much, and a large one has an end."""

import math
from dataclasses import dataclass, field
from typing import Any

from shopfit.recipe.suggestions import shown


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may hold at most.

    Args:
        rows: in the file.
        columns: names over all rows, and in any object.
        values: texts, numbers, lists and objects over all rows.
        text: characters of one text.
        row: characters of one row as it is written.
        depth: lists and objects in one another.
        unpacked: bytes that a Parquet file or a dataset may unpack to, whatever its size.
        packed: times its own size that it may unpack to besides.
        memory: bytes that unpacking may take.
        problems: that are listed before the rest of the file is left unread.
    """

    rows: int = 2_000_000
    columns: int = 1_000
    values: int = 40_000_000
    text: int = 1_048_576
    row: int = 4_194_304
    depth: int = 32
    unpacked: int = 64 * 1024**2
    packed: int = 50
    memory: int = 2 * 1024**3
    problems: int = 10_000


LIMITS = Limits()
_LONGEST_NUMBER = 10**40  # no id is longer, and float() takes it


class BadValue(ValueError):  # noqa: N818 - reads as what it is
    """A value that no row may hold: what is wrong, what is allowed, and in which field."""

    def __init__(self, what: str = "", allowed: str = "", name: str = "") -> None:
        super().__init__(what)
        self.what, self.allowed, self.name = what, allowed, name


class TooMuch(Exception):  # noqa: N818 - reads as what it is
    """A file holds more than it may: what, and what is allowed."""

    def __init__(self, what: str, allowed: str) -> None:
        super().__init__(what)
        self.what, self.allowed = what, allowed


@dataclass(slots=True)
class Budget:
    """What has been read of a file, and whether it is still within its limits."""

    limits: Limits
    rows: int = 0
    values: int = 0
    columns: set[str] = field(default_factory=set)

    def take(self, row: dict[str, Any]) -> None:
        """Count a row and check its values.

        Raises:
            BadValue: if one of them is none that a row may hold.
            TooMuch: if the file holds too much.
        """
        limits = self.limits
        self.rows += 1
        if self.rows > limits.rows:
            raise TooMuch(f"has more than {limits.rows} rows", f"at most {limits.rows} rows; split the file")
        self.add_columns(row)
        for name, value in row.items():
            try:
                self._check_text(name)
                self._check(value, 1)
            except BadValue as error:
                raise BadValue(error.what, error.allowed, name) from None
        if self.values > limits.values:
            raise TooMuch(f"holds more than {limits.values} values", f"at most {limits.values}; split the file")

    def add_columns(self, names: Any) -> None:
        """Count the names of columns.

        Raises:
            TooMuch: if they are too many.
        """
        self.columns.update(names)
        if len(self.columns) > (most := self.limits.columns):
            raise TooMuch(f"has more than {most} columns", f"at most {most} columns; leave out what no recipe reads")

    def _check(self, value: Any, depth: int) -> None:
        self.values += 1
        if isinstance(value, str):
            self._check_text(value)
        elif isinstance(value, list | dict):
            self._check_parts(value, depth)
        elif isinstance(value, float) and not math.isfinite(value):
            raise BadValue(f"holds {value}, which is not finite", "finite numbers")
        elif isinstance(value, int) and not -_LONGEST_NUMBER < value < _LONGEST_NUMBER:
            raise BadValue(f"{shown(value)} is a number too long to read", "at most 40 digits")

    def _check_parts(self, value: list[Any] | dict[str, Any], depth: int) -> None:
        if depth > self.limits.depth:
            raise BadValue("is nested too deep", f"{self.limits.depth} lists and objects in one another")
        if isinstance(value, dict):
            for name in value:
                self._check_text(name)
        for part in value.values() if isinstance(value, dict) else value:
            self._check(part, depth + 1)

    def _check_text(self, text: str) -> None:
        if len(text) > self.limits.text:
            raise BadValue(f"holds a text of {len(text)} characters", f"at most {self.limits.text}")
