"""Near names: what the user probably meant."""

import difflib
import json
from collections.abc import Iterable
from typing import Any

_LONGEST = 60  # characters of a value that a message shows


def did_you_mean(seen: object, names: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the name nearest to `seen`, or nothing."""
    near = nearest(seen, names)
    return f"; did you mean {near!r}?" if near is not None else ""


def nearest(seen: object, names: Iterable[str]) -> str | None:
    """The name nearest to `seen`, or None if none is near."""
    known = {name.casefold(): name for name in names}
    near = difflib.get_close_matches(str(seen).casefold(), list(known), n=1, cutoff=0.6)
    return known[near[0]] if near else None


def shown(value: Any) -> str:
    """A value as messages show it: on one line, and short."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
