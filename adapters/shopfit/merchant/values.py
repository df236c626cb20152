"""Single values of a row: what counts as missing, as an id, as a label; and a list of what is wrong with the rest."""

from collections.abc import Mapping
from typing import Any

from shopfit.errors import Problem
from shopfit.recipe.suggestions import shown


class Checks:
    """The mistakes of one row.

    Args:
        where: its file and line.
        columns: our field name: the file's, where they differ.
    """

    def __init__(self, where: str, columns: Mapping[str, str] | None = None) -> None:
        self.where = where
        self.columns = columns or {}
        self.problems: list[Problem] = []

    def bad(self, field: str, value: Any, allowed: str, what: str = "is not accepted") -> None:
        """Note that `field` cannot be `value`."""
        seen = "is missing" if is_missing(value) else f"{shown(value)} {what}"
        name = f"{field} (column {self.columns[field]!r})" if field in self.columns else field
        self.problems.append(Problem(f"{self.where} {name}", seen, allowed))


def is_missing(value: Any) -> bool:
    """Whether a value says nothing: null, blank text, an empty list or object."""
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], {})


def as_id(value: Any) -> str | None:
    """An id as text: text that is not blank, or a whole number; None for anything else."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():  # a table with gaps turns whole numbers into floats
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def as_ids(value: Any) -> tuple[str, ...] | None:
    """One id, or a list of ids, each once and in order; None for anything else."""
    parts = [as_id(part) for part in value] if isinstance(value, list) else [as_id(value)]
    known = [part for part in parts if part is not None]
    return tuple(dict.fromkeys(known)) if len(known) == len(parts) else None


def as_label(value: Any) -> str | None:
    """A label as text: text, a whole number, or a truth value as JSON writes it; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return as_id(value)
