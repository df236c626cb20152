"""Single values of a row: what counts as missing, as an id, as a label; and a list of what is wrong with the rest."""

import re
import unicodedata
from collections.abc import Collection, Mapping
from typing import Any

from shopfit.errors import Problem
from shopfit.recipe.label_spelling import visible
from shopfit.recipe.suggestions import shown

_LONGEST_ID = 2000  # characters; a title is an id where there is no catalog
_LARGEST_ID = 10**40
_EXACT = 2**53  # below it a float is the whole number that it was made from
_WHOLE = re.compile(r"([+-]?[0-9]{1,15})\.0")


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
    """Whether a value is missing: null, NaN, text without a visible sign, an empty list or object."""
    if isinstance(value, str):
        return not (value.strip() if value.isascii() else any(map(_is_seen, value)))
    return value is None or (isinstance(value, float) and value != value) or value in ([], {})


def _is_seen(sign: str) -> bool:
    return bool(visible(sign).strip())


def as_id(value: Any) -> str | None:
    """An id as text: text that is not blank, or a whole number; None for anything else, or what is too long for one."""
    if isinstance(value, str):
        text = value.strip()
        if not text.isascii():
            text = text.strip("\ufeff\u200b\u200c\u200d\u2060").strip()
        return text if text and len(text) <= _LONGEST_ID and visible(text).strip() else None
    if isinstance(value, float):  # a table with gaps turns whole numbers into floats
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT else None
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if whole and abs(value) < _LARGEST_ID else None


def as_ids(value: Any) -> tuple[str, ...] | None:
    """One id, or a list of ids, each once and in order; None for anything else."""
    parts = [as_id(part) for part in value] if isinstance(value, list) else [as_id(value)]
    known = [part for part in parts if part is not None]
    return tuple(dict.fromkeys(known)) if len(known) == len(parts) else None


def as_label(value: Any) -> str | None:
    """A label as text: text, a whole number, or a truth value as JSON writes it; None for anything else.

    A whole number is the same label however a table writes it: 5, 5.0, "5" and "5.0".
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    label = as_id(value)
    if label is None:
        return None
    whole = _WHOLE.fullmatch(label)
    return whole[1] if whole else unicodedata.normalize("NFC", label)


def mapped(values: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """A row under our names; a column that is mapped is no longer there under its own."""
    kept = {name: value for name, value in values.items() if name not in columns and name not in columns.values()}
    return kept | {ours: values[theirs] for ours, theirs in columns.items() if theirs in values}


def squeezed(name: str) -> str:
    """A column's name by its letters and digits alone, so that `In Stock` is found for `in_stock`."""
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def meant(ours: str, there: Collection[str]) -> str | None:
    """The column that differs from our name by case, spaces or signs alone."""
    return next((name for name in there if name != ours and squeezed(name) == squeezed(ours)), None)
