"""Near names: what the user probably meant; and values as messages show them."""

import itertools
import json
from collections.abc import Collection, Iterable
from typing import Any

from rapidfuzz import fuzz, process

_LONGEST = 60  # characters of a value that a message shows
_PARTS, _DEEPEST = 21, 3  # of a list, and lists in one another: more do not fit
_LISTED = 10  # values in a message
_LONGEST_NAME = 200  # characters of a name that is compared
_MOST_NAMES = 20_000  # that are compared
_NEAR = 60  # percent


def did_you_mean(seen: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name nearest to `seen`, or nothing."""
    near = nearest(seen, names)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest(seen: object, names: Iterable[str]) -> str | None:
    """The name nearest to `seen`, or None if none is near; bounded, however many and long the names are."""
    wanted = seen if isinstance(seen, str) else shown(seen)
    if len(wanted) > _LONGEST_NAME:
        return None
    few = itertools.islice(names, _MOST_NAMES)
    known = {name.casefold(): name for name in few if len(name) <= _LONGEST_NAME}
    near = process.extractOne(wanted.casefold(), list(known), scorer=fuzz.ratio, processor=None, score_cutoff=_NEAR)
    return known[near[0]] if near is not None else None


def shown(value: Any) -> str:
    """A value as messages show it: on one line, and short."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = repr(_cut(value, depth=0))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def listed(values: Collection[str]) -> str:
    """The first few of some texts, as messages show them."""
    few = ", ".join(shown(value) for value in itertools.islice(values, _LISTED))
    return few if len(values) <= _LISTED else f"{few} and {len(values) - _LISTED} more"


class _Written:
    """Something whose `repr` is a text as it stands."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _cut(value: Any, depth: int) -> Any:
    """As much of a value as can be shown, so that a large one costs no more than a small one."""
    if depth > _DEEPEST:
        return _Written("…")
    match value:
        case str() | bytes():
            return value[: _LONGEST + 1]
        case bool():
            return value
        case int() if abs(value) >> 256:  # `str` refuses thousands of digits
            return _Written(f"{'-' if value < 0 else ''}{_first_digits(abs(value))}…")
        case dict():
            few = itertools.islice(value.items(), _PARTS)
            return {_cut(key, depth + 1): _cut(part, depth + 1) for key, part in few}
        case list():
            return [_cut(part, depth + 1) for part in value[:_PARTS]]
        case tuple():
            return tuple(_cut(part, depth + 1) for part in value[:_PARTS])
    return value


def _first_digits(number: int) -> str:
    """About the first digits of a large number."""
    digits = int((number.bit_length() - 1) * 0.30102999566398)
    return str(number // 10 ** max(0, digits - _LONGEST))
