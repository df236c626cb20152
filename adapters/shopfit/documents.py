"""Values as plain JSON: what commands print and processes send each other, written in one place."""

import json
import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from os import PathLike, fspath
from typing import Any


def document(value: Any) -> Any:
    """A value as JSON (RFC 8259) has it: dicts with text as keys, lists, texts, numbers, true, false and None.

    Args:
        value: a dataclass, a pydantic model, a mapping, a list, tuple or set, a time, a path, a scalar or array of
            numpy, or what JSON has already. Numbers that are not finite become None.

    Raises:
        TypeError: if it, or anything in it, is none of these.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): document(part) for key, part in value.items()}
        case list() | tuple():
            return [document(part) for part in value]
        case Set():
            return [document(part) for part in sorted(value)]
        case PathLike():
            return fspath(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: document(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "model_dump_json"):
        return json.loads(value.model_dump_json(by_alias=True))  # what is undefined is null, not NaN
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "tolist"):  # of numpy, which need not be imported to be asked
        return document(value.tolist())
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
