"""Schemas that no finite value follows are known, in time that goes by their size."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.engine.json_schemas import MOST_CHARACTERS, has_finite_value, is_too_large

POINTERS = ["#", "#/a", "#/items", "#/anyOf/0", "#/anyOf/1", "#/allOf/0", "#/properties/x~1y", "#/nowhere", "#x"]
KINDS = st.sampled_from(["array", "object", "string", ["array", "object"], ["object", "null"], []])


def objects(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    few = st.lists(parts, max_size=3)
    return st.fixed_dictionaries(
        {},
        optional={
            "$ref": st.sampled_from(POINTERS),
            "a": parts,
            "type": KINDS,
            "anyOf": few,
            "oneOf": few,
            "allOf": few,
            "items": parts,
            "prefixItems": few,
            "minItems": st.integers(-1, 3),
            "properties": st.dictionaries(st.sampled_from(["x/y", "z"]), parts, max_size=2),
            "required": st.lists(st.sampled_from(["x/y", "z", "w"]), max_size=2),
            "additionalProperties": parts,
        },
    )


SCHEMAS = st.recursive(st.booleans() | st.just({"const": 1}) | objects(st.booleans()), objects, max_leaves=12)


@given(SCHEMAS)
def test_the_answer_is_that_of_looking_at_all_parts_until_nothing_changes(schema: Any) -> None:
    parts = dict(everything(schema, "#"))
    finite: set[str] = set()
    while more := {at for at, part in parts.items() if at not in finite and ends(part, at, finite)}:
        finite |= more
    assert has_finite_value(schema) == ("#" in finite)


def everything(part: Any, at: str) -> Iterator[tuple[str, Any]]:
    yield at, part
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inside:
        yield from everything(value, f"{at}/{str(key).replace('/', '~1')}")


def ends(part: Any, at: str, finite: set[str]) -> bool:
    """The rules, one part at a time, as they read."""
    if not isinstance(part, dict):
        return part is not False
    there = (part["$ref"] in finite) if "$ref" in part else True
    for name in ("anyOf", "oneOf"):
        if part.get(name):
            there &= any(f"{at}/{name}/{place}" in finite for place in range(len(part[name])))
    there &= all(f"{at}/allOf/{place}" in finite for place in range(len(part.get("allOf", []))))
    kinds = part.get("type", "string")
    if not there or "const" in part or {"string", "null"} & ({kinds} if isinstance(kinds, str) else set(kinds)):
        return there
    least, first = part.get("minItems", 0), len(part.get("prefixItems", []))
    array = all(f"{at}/prefixItems/{place}" in finite for place in range(min(first, max(least, 0))))
    if least > first and "items" in part:
        array &= f"{at}/items" in finite
    known = part.get("properties", {})
    wanted = [f"{at}/properties/{name.replace('/', '~1')}" for name in part.get("required", []) if name in known]
    if "additionalProperties" in part and set(part.get("required", [])) - known.keys():
        wanted.append(f"{at}/additionalProperties")
    return ("array" in kinds and array) or ("object" in kinds and all(place in finite for place in wanted))


class Counted(dict[str, Any]):
    """A part of a schema that counts how often it is asked for a keyword."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        Counted.asked += 1
        return super().get(key, default)


@pytest.mark.parametrize("last", [{"const": 1}, {"$ref": "#/$defs/d0"}])
def test_a_chain_of_references_is_looked_at_once(last: Mapping[str, Any]) -> None:
    def asked(size: int) -> int:
        chain = {f"d{number}": Counted({"$ref": f"#/$defs/d{number + 1}"}) for number in range(size)}
        Counted.asked = 0
        assert has_finite_value({"$ref": "#/$defs/d0", "$defs": {**chain, f"d{size}": last}}) == ("const" in last)
        return Counted.asked

    assert asked(400) == 4 * asked(100)


def test_a_list_of_parts_that_end_one_after_the_other_is_taken() -> None:
    parts: list[Any] = [{"$ref": f"#/allOf/{number + 1}"} for number in range(1000)]
    assert has_finite_value({"allOf": [*parts, {"const": 1}]})
    assert not has_finite_value({"allOf": [*parts, {"$ref": "#"}]})


class Endless(list[Any]):
    """A list that cannot be gone through."""

    def __iter__(self) -> Iterator[Any]:
        yield from range(MOST_CHARACTERS)
        raise AssertionError("all of it was read")


def test_a_large_schema_is_known_before_all_of_it_was_looked_at() -> None:
    assert is_too_large({"enum": Endless()})
    assert is_too_large({"x" * MOST_CHARACTERS: 1})
    assert is_too_large({"const": 1 << 8 * MOST_CHARACTERS})
    circle: list[Any] = []
    circle.append(circle)
    assert is_too_large(circle)


@given(SCHEMAS)
def test_what_is_written_shorter_is_never_too_large(schema: Any) -> None:
    for times in (1, 400, 2000):
        many = [schema] * times
        assert not is_too_large(many) or len(json.dumps(many)) > MOST_CHARACTERS
