"""Whether a JSON schema has any finite value, checked before a model generates one.

llguidance's grammar compiler finds contradictions such as an empty range, but not endless recursion: an array of at
least one array of the same kind. So the parts of a schema that have a finite value are found from the leaves up, as
productive symbols of a grammar are (Hopcroft and Ullman, 1979, 4.4), in linear time (Dowling and Gallier, 1984).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_SCALARS = {"string", "number", "integer", "boolean", "null"}
_DEEPEST = 64
MOST_CHARACTERS = 32 * 1024
"""Most characters of a schema as JSON: larger ones take seconds to compile."""


def is_too_large(schema: Any) -> bool:
    """Whether a schema certainly has more than `MOST_CHARACTERS`; counting stops there.

    Args:
        schema: any object; one that contains itself is too large.
    """
    characters = 0
    inside: list[Iterator[Any]] = [iter((schema,))]
    while inside:
        try:
            part = next(inside[-1])
        except StopIteration:
            inside.pop()
            continue
        match part:
            case str():
                characters += len(part) + 2
            case int():
                characters += 1 + part.bit_length() // 4  # a digit is 3.3 bits
            case Mapping():
                characters += 2
                inside.append(value for pair in part.items() for value in pair)
            case list() | tuple():
                characters += 2
                inside.append(iter(part))
            case _:
                characters += 1
        if characters > MOST_CHARACTERS:
            return True
    return False


@dataclass(slots=True, eq=False)
class _Part:
    """A value in a schema, or one alternative that makes it finite.

    Args:
        value: the schema's JSON value.
        inside: its parts, by their names in a JSON pointer (RFC 6901).
        needed: groups that contain it.
        missing: groups that it needs and of which no part is known to be finite yet.
    """

    value: Any = None
    inside: dict[str, "_Part"] = field(default_factory=dict)
    needed: list["_Group"] = field(default_factory=list)
    missing: int = 0

    def at(self, *names: object) -> "list[_Part]":
        """A list of the part at this path; empty if there is none."""
        part: _Part | None = self
        for name in names:
            if part is not None:
                part = part.inside.get(str(name))
        return [] if part is None else [part]


@dataclass(slots=True, eq=False)
class _Group:
    """Parts of which at least one must be finite for `whose` to be finite."""

    whose: _Part
    met: bool = False


def has_finite_value(schema: Any) -> bool:
    """Whether some finite value may follow a schema.

    Args:
        schema: a JSON schema; only keywords that force a size are checked, so True is no guarantee.
    """
    root = _Part(schema)
    needs = [needed for part in _all_parts(root) for needed in _needs(part, root)]
    finite = [part for part, groups in needs if not groups]
    for part, groups in needs:
        part.missing = len(groups)
        for parts in groups:
            group = _Group(part)
            for other in parts:
                other.needed.append(group)
    while finite:
        part = finite.pop()
        if part is root:
            return True
        for group in part.needed:
            if not group.met:
                group.met = True
                group.whose.missing -= 1
                if not group.whose.missing:
                    finite.append(group.whose)
    return False


def _needs(part: _Part, root: _Part) -> Iterator[tuple[_Part, list[list[_Part]]]]:
    """Groups of parts that a part needs to be finite, and those of an artificial part for each type it may have."""
    groups, alternatives = _groups(part, root), _alternatives(part)
    if alternatives is not None:
        either = [_Part() for _ in alternatives]
        groups.append(either)
        yield from zip(either, alternatives, strict=True)
    yield part, groups


def _all_parts(root: _Part) -> list[_Part]:
    """Every value in a schema: any of them may be the target of a `$ref`."""
    parts, depths = [root], [0]
    for part, depth in zip(parts, depths, strict=True):  # both grow
        value = part.value
        if depth == _DEEPEST:
            continue
        inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
        part.inside = {_name(key): _Part(within) for key, within in inside}
        parts += part.inside.values()
        depths += [depth + 1] * len(part.inside)
    return parts


def _groups(part: _Part, root: _Part) -> list[list[_Part]]:
    """Groups of which one part each must be finite for this part to be finite, whatever its type."""
    value = part.value
    if not isinstance(value, Mapping):
        return [[]] if value is False else []
    groups = []
    reference = value.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        start, *names = reference.split("/")
        groups.append(root.at(*names) if start == "#" else [])
    groups += [
        [option for place in range(len(options)) for option in part.at(name, place)]
        for name in ("anyOf", "oneOf")
        if (options := _list(value.get(name)))
    ]
    groups += [part.at("allOf", place) for place in range(len(_list(value.get("allOf"))))]
    return groups


def _alternatives(part: _Part) -> list[list[list[_Part]]] | None:
    """Groups for each type that this part allows, one of which must be met; None if it allows a scalar."""
    value = part.value
    if not isinstance(value, Mapping) or "const" in value or "enum" in value:
        return None
    kinds = value.get("type", list(_SCALARS))
    kinds = {kinds} if isinstance(kinds, str) else set(map(str, _list(kinds)))
    if kinds & _SCALARS:
        return None
    return [
        alternatives(part) for kind, alternatives in (("array", _of_array), ("object", _of_object)) if kind in kinds
    ]


def _of_array(part: _Part) -> list[list[_Part]]:
    least = part.value.get("minItems", 0)
    first = len(_list(part.value.get("prefixItems")))
    if not isinstance(least, int) or least <= 0:
        return []
    groups = [part.at("prefixItems", place) for place in range(min(first, least))]
    return groups if least <= first or "items" not in part.value else [*groups, part.at("items")]


def _of_object(part: _Part) -> list[list[_Part]]:
    known = part.value.get("properties")
    known = known if isinstance(known, Mapping) else {}
    groups = []
    for name in _list(part.value.get("required")):
        if not isinstance(name, str):
            continue
        if name in known:
            groups.append(part.at("properties", _name(name)))
        elif "additionalProperties" in part.value:
            groups.append(part.at("additionalProperties"))
    return groups


def _name(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
