"""JSON that strangers send, read strictly: what could be understood in two ways, or by some readers only, is refused.

RFC 8259, and of RFC 7493 (I-JSON): UTF-8, each name once, whole characters, finite numbers.
"""

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 100
"""Lists and objects in one another."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Args:
        text: as it was sent; bytes are UTF-8.

    Raises:
        ValueError: why it is refused, in words for whoever sent it.
    """
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        value = json.loads(decoded, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if decoded.count("[") + decoded.count("{") > DEEPEST and _is_too_deep(value):
        raise ValueError("it is nested too deeply")
    if isinstance(text, str) or "\\u" in decoded:  # bytes that are UTF-8 hold none as they stand
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start : error.end]
            raise ValueError(f"it holds {half!r}, half of a character") from None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number in JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is too large a number")
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"{twice[:200]!r} stands there twice")
    return found


def _is_too_deep(value: Any) -> bool:
    inside: list[Iterator[Any]] = [iter((value,))]
    while inside:
        part = next(inside[-1], inside)
        if part is inside:
            inside.pop()
        elif isinstance(part, list | dict):
            if len(inside) > DEEPEST:
                return True
            inside.append(iter(part.values() if isinstance(part, dict) else part))
    return False
