"""Whether any JSON value can follow a JSON schema at all, before a model is asked to write one.

The compiler of grammars finds contradictions such as an empty range. What it does not find is a value that would have
no end: an array of at least one such array. So we ask which parts of a schema have a finite value, from the leaves up
to a fixed point, as one asks which symbols of a grammar are productive (Hopcroft and Ullman, 1979, 4.4).
"""

from collections.abc import Iterator, Mapping
from typing import Any

_SCALARS = {"string", "number", "integer", "boolean", "null"}
_DEEPEST = 64
MOST_CHARACTERS = 32 * 1024
"""Of a schema as JSON: what is larger takes seconds to compile."""


def has_finite_value(schema: Any) -> bool:
    """Whether a schema asks for something that can come to its end.

    Args:
        schema: a JSON schema; keywords that say nothing about size are not looked at, so True is no promise.
    """
    parts = dict(_parts(schema, "#", 0))
    finite: set[str] = set()
    while True:
        more = {pointer for pointer, part in parts.items() if pointer not in finite and _ends(part, pointer, finite)}
        if not more:
            return "#" in finite
        finite |= more


def _parts(part: Any, pointer: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every value in a schema, by JSON pointer (RFC 6901): any of them may be what a `$ref` means."""
    if depth > _DEEPEST:
        return
    yield pointer, part
    inside = part.items() if isinstance(part, Mapping) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inside:
        name = str(key).replace("~", "~0").replace("/", "~1")
        yield from _parts(value, f"{pointer}/{name}", depth + 1)


def _ends(part: Any, pointer: str, finite: set[str]) -> bool:
    """Whether a value of this part can be finite, given what is known of the others."""
    if not isinstance(part, Mapping):
        return part is not False
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#") and reference not in finite:
        return False
    for name in ("anyOf", "oneOf"):
        options = _list(part.get(name))
        if options and not any(f"{pointer}/{name}/{place}" in finite for place in range(len(options))):
            return False
    if any(f"{pointer}/allOf/{place}" not in finite for place in range(len(_list(part.get("allOf"))))):
        return False
    if "const" in part or "enum" in part:
        return True
    kinds = part.get("type", list(_SCALARS))
    kinds = {kinds} if isinstance(kinds, str) else set(map(str, _list(kinds)))
    if kinds & _SCALARS:
        return True
    return ("array" in kinds and _array_ends(part, pointer, finite)) or (
        "object" in kinds and _object_ends(part, pointer, finite)
    )


def _array_ends(part: Mapping[str, Any], pointer: str, finite: set[str]) -> bool:
    least = part.get("minItems", 0)
    first = len(_list(part.get("prefixItems")))
    if not isinstance(least, int) or least <= 0:
        return True
    if any(f"{pointer}/prefixItems/{place}" not in finite for place in range(min(first, least))):
        return False
    return least <= first or "items" not in part or f"{pointer}/items" in finite


def _object_ends(part: Mapping[str, Any], pointer: str, finite: set[str]) -> bool:
    known = part.get("properties")
    known = known if isinstance(known, Mapping) else {}
    for name in _list(part.get("required")):
        if name in known:
            place = str(name).replace("~", "~0").replace("/", "~1")
            if f"{pointer}/properties/{place}" not in finite:
                return False
        elif "additionalProperties" in part and f"{pointer}/additionalProperties" not in finite:
            return False
    return True


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
