"""What a JSON Schema allows, in words: of recipes, bundles and HTTP bodies alike."""

import json
from collections.abc import Mapping
from typing import Any

from docs.generate.markdown import code

Schema = Mapping[str, Any]


def allowed(schema: Schema, links: Mapping[str, str] | None = None) -> str:
    """The values that a schema allows, in words.

    Args:
        schema: of one value.
        links: address of what describes a schema that is only referenced, by that one's name.
    """
    if "$ref" in schema and "enum" not in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name == "JsonValue":
            return "any JSON"
        address = (links or {}).get(name)
        return f"[{name}]({address})" if address else f"an object {code(name)}"
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema["enum"])
    for several in ("anyOf", "oneOf"):
        if several in schema:
            options = [allowed(option, links) for option in schema[several]]
            return " or ".join(dict.fromkeys(option for option in options if option))
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return _number(schema)
    if kind == "string":
        return _text(schema)
    if kind == "array":
        return _list(schema, links)
    if kind == "object":
        values = schema.get("additionalProperties")
        if isinstance(values, Mapping) and values:
            return f"object of name: {allowed(values, links)}"
        return "an object"
    return {"boolean": "`true` or `false`", "null": "`null`"}.get(str(kind), "any JSON")


def _number(schema: Schema) -> str:
    name = "whole number" if schema["type"] == "integer" else "number"
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{name}, {_shown(low)} to {_shown(high)}"
    bounds = [
        f"{words} {_shown(bound)}"
        for words, bound in (("from", low), ("above", above), ("up to", high), ("below", below))
        if bound is not None
    ]
    return f"{name} {', '.join(bounds)}" if bounds else name


def _shown(bound: float) -> str:
    if abs(bound) >= 2**53:
        return f"2^{round(abs(bound)).bit_length() - 1}" if bound > 0 else f"-2^{round(abs(bound)).bit_length() - 1}"
    return f"{bound:,.15g}" if bound != int(bound) or abs(bound) < 10_000 else f"{int(bound):,}"


def _text(schema: Schema) -> str:
    low, high = schema.get("minLength"), schema.get("maxLength")
    if schema.get("format") == "date-time":
        return "time in ISO 8601"
    if high is not None:
        return f"text of {'at most' if low is None else f'{low} to'} {high:,} characters"
    return "text"


def _list(schema: Schema, links: Mapping[str, str] | None) -> str:
    low, high = schema.get("minItems"), schema.get("maxItems")
    count = f", {low} to {high:,}" if low and high else f", at most {high:,}" if high else ""
    return f"list of {allowed(schema.get('items', {}), links)}{count}"
