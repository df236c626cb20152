"""Converts a field of a request or row to the text in a prompt: which values are allowed, and which count as blank."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shopfit.errors import RequestError

_DEEPEST = 32  # objects and lists within each other
_LONGEST_NUMBER = 1 << 12  # bits
# white space and controls; what Unicode calls Default_Ignorable_Code_Point (DerivedCoreProperties.txt); Braille's blank
_SEEN = re.compile(
    r"[^\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")
_ALLOWED = "text, a number, true or false, a list of those, or a JSON object"


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: white space, controls and characters of no width count as nothing."""
    return _SEEN.search(text) is None


def as_shown(name: str, value: Any, room: int) -> str:
    """A field as text; empty if it is blank.

    Args:
        name: of the field.
        value: text, a number, true or false, a list of those, or a JSON object; None and NaN are missing.
        room: characters that are read of it at most.

    Raises:
        RequestError: if it is anything else, or invalid text.
    """
    if isinstance(value, list | tuple):
        text = ", ".join(_parts(name, value, room))
    elif isinstance(value, Mapping):
        text = "".join(_up_to(room, _json(name, value, room))) if value else ""
    else:
        text = _one(name, value, room).strip()
    return "" if is_blank(text) else text[:room]


def checked_text(name: str, text: str, room: int) -> str:
    """The first `room` characters of a text.

    Raises:
        RequestError: if it contains NUL or a lone surrogate.
    """
    text = text[:room]
    if found := _NO_TEXT.search(text):
        what = "a NUL character" if found[0] == "\0" else f"half a character, the lone surrogate \\u{ord(found[0]):04x}"
        raise RequestError(
            f"{name} holds {what} (at character {found.start() + 1})", next_step="send valid Unicode text without NUL"
        )
    return text


def latest(texts: Sequence[str], room: int) -> list[str]:
    """The latest items of a history that fit in so many characters."""
    kept: list[str] = []
    for text in reversed(texts):
        if room <= 0:
            break
        kept.append(text[:room])
        room -= len(text)
    return kept[::-1]


def _one(name: str, value: Any, room: int) -> str:
    """Convert text, a number or a truth value."""
    if isinstance(value, str):
        return checked_text(_field(name), value, room)
    if isinstance(value, float):
        if math.isinf(value):
            raise RequestError(f"{_field(name)} is {value} (allowed: finite numbers)", next_step="leave it out")
        return "" if math.isnan(value) else str(value)
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_NUMBER:
            raise RequestError(
                f"{_field(name)} is a whole number of {value.bit_length()} bits (allowed: up to {_LONGEST_NUMBER})",
                next_step="send it as text, or leave it out",
            )
        return str(value)
    if value is None:
        return ""
    raise RequestError(
        f"{_field(name)} is of type {type(value).__name__} (allowed: {_ALLOWED})",
        next_step="send it as text, or leave it out",
    )


def _parts(name: str, values: list[Any] | tuple[Any, ...], room: int) -> Iterator[str]:
    """Parts of a list that are not blank, until `room` is used up."""
    for value in values[:room]:
        if isinstance(value, list | tuple | Mapping):
            part = "".join(_up_to(room, _json(name, value, room)))
        else:
            part = _one(name, value, room)
        if is_blank(part):
            continue
        yield part
        room -= len(part) + 2
        if room <= 0:
            return


def _up_to(room: int, chunks: Iterator[str]) -> Iterator[str]:
    for chunk in chunks:
        yield chunk[:room]
        room -= len(chunk)
        if room <= 0:
            return


def _json(name: str, value: Any, room: int, depth: int = 0) -> Iterator[str]:
    """A value as JSON, lazily in pieces, so that a huge one is only read as far as needed."""
    if depth > _DEEPEST:
        raise RequestError(
            f"{_field(name)} holds more than {_DEEPEST} objects and lists within each other", next_step="send it flat"
        )
    if value is None:
        yield "null"
    elif isinstance(value, str):
        yield json.dumps(checked_text(_field(name), value, room), ensure_ascii=False)
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, float) and math.isnan(value):
        raise RequestError(f"{_field(name)} holds NaN, which is no JSON", next_step="send null, or leave it out")
    elif isinstance(value, Mapping):
        yield from _json_members(name, value, room, depth)
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield ", " if place else "["
            yield from _json(name, part, room, depth + 1)
        yield "]" if value else "[]"
    else:
        yield _one(name, value, room)


def _json_members(name: str, value: Mapping[Any, Any], room: int, depth: int) -> Iterator[str]:
    for place, (key, part) in enumerate(value.items()):
        if not isinstance(key, str):
            raise RequestError(
                f"{_field(name)} has a key of type {type(key).__name__} (allowed: text)", next_step="name it by text"
            )
        yield ", " if place else "{"
        yield f"{json.dumps(checked_text(_field(name), key, room), ensure_ascii=False)}: "
        yield from _json(name, part, room, depth + 1)
    yield "}" if value else "{}"


def _field(name: str) -> str:
    return f"the field {name!r}"
