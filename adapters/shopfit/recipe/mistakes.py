"""Pydantic's errors in plain English: the key, the value seen, what is allowed, and what was probably meant.

Works for any model, so that a merchant's description is explained like a recipe.
"""

import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from shopfit.errors import Problem
from shopfit.recipe.names import SLUG, SLUG_RULE
from shopfit.recipe.plain_yaml import KeyPath, dotted
from shopfit.recipe.suggestions import did_you_mean, nearest, shown

Where = Callable[[KeyPath], str]

_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal")
_OWN_LINE = re.compile(r"(?P<path>[a-z_]+(?:\.[a-z_]+)+): (?P<what>.*?)(?: \(allowed: (?P<allowed>.*)\))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mistake:
    """A problem and the keys it is about.

    Args:
        path: where it is.
        problem: what the user reads.
        unknown: whether `path` is no key at all.
        meant: dotted paths of the keys it may have been instead.
    """

    path: KeyPath
    problem: Problem
    unknown: bool = False
    meant: tuple[str, ...] = ()


def explain(error: ValidationError, model: type[BaseModel], document: Any, where: Where) -> list[Mistake]:
    """Every mistake pydantic found, once a key.

    Args:
        error: what `model.model_validate(document)` raised.
        model: what the document should be.
        document: what was seen.
        where: turns a key path into file, line and key for the reader.
    """
    mistakes: dict[tuple[KeyPath, str], Mistake] = {}
    for entry in error.errors(include_url=False):
        kind, location = entry["type"], entry["loc"]
        if kind == "extra_forbidden":
            found = [_unknown_key(model, location, where)]
        elif kind == "value_error":
            found = list(_own(str(entry["ctx"]["error"]), _find(model, location).path, document, where))
        else:
            found = [_unfit(model, kind, location, document, where)]
        for mistake in found:
            # every branch of a union has an error: only the first is shown
            key = mistake.problem.what if kind == "value_error" else ""
            mistakes.setdefault((mistake.path, key), mistake)
    return list(mistakes.values())


def _unknown_key(model: type[BaseModel], path: KeyPath, where: Where) -> Mistake:
    spot, key = _find(model, path[:-1]), str(path[-1])
    path, owner = (*spot.path, key), _section(spot.annotation)
    siblings = list(_fields(owner)) if owner is not None else []
    everywhere = _everywhere(model)
    elsewhere = [dotted(other) for other in everywhere if other[-1] == key]
    near = nearest(key, siblings)
    if elsewhere:
        meant = elsewhere
    elif near is not None:
        meant = [dotted((*path[:-1], near))]
    else:
        places = {str(other[-1]): dotted(other) for other in everywhere}
        far = nearest(key, places)
        meant = [places[far]] if far is not None else []
    names = [repr(near)] if near is not None and not elsewhere else map(repr, meant)
    hint = f"; did you mean {' or '.join(names)}?" if meant else ""
    problem = Problem(where(path), f"is not a key{hint}", ", ".join(siblings))
    return Mistake(path, problem, unknown=True, meant=tuple(meant))


def _own(message: str, location: KeyPath, document: Any, where: Where) -> Iterator[Mistake]:
    """Messages of our own validators; those on the whole document are `key.path: what (allowed: …)`, one a line."""
    for line in message.split("\n"):
        if not location and (match := _OWN_LINE.fullmatch(line)):
            path: KeyPath = tuple(match["path"].split("."))
            yield Mistake(path, Problem(where(path), match["what"], match["allowed"] or ""))
        else:
            value = _lookup(document, location)
            seen = f"{shown(value)} " if location and not isinstance(value, dict) else ""
            yield Mistake(location, Problem(where(location), seen + line))


def _unfit(model: type[BaseModel], kind: str, location: KeyPath, document: Any, where: Where) -> Mistake:
    spot = _find(model, location)
    path, value = spot.path, _lookup(document, spot.path)
    allowed = _describe(spot.annotation, spot.field.metadata if spot.field is not None else [])
    if kind.startswith("union_tag"):
        key, members = _tagged(spot.annotation)
        path = (*path, key)
        value = _lookup(document, path)
        lacking = kind == "union_tag_not_found"
        what = "is missing" if lacking else f"{shown(value)} is not accepted{did_you_mean(value, members)}"
        return Mistake(path, Problem(where(path), what, ", ".join(members)))
    if kind == "missing":
        about = f"; {spot.field.description}" if spot.field is not None and spot.field.description else ""
        return Mistake(path, Problem(where(path), "is missing", allowed + about))
    if kind in _RANGE:
        what = f"{shown(value)} is out of range"
    elif kind == "string_too_short":
        what = "is empty"
    elif kind == "string_type" and isinstance(value, int | float | dict | list):
        what = f"{shown(value)} is not text; write it in quotes"
    else:
        what = f"{shown(value)} is not accepted{did_you_mean(value, _choices(spot.annotation))}"
    return Mistake(path, Problem(where(path), what, allowed))


def _describe(annotation: Any, metadata: list[Any]) -> str:
    """What a field takes, in words: `a number, above 0, at most 1`."""
    key, members = _tagged(annotation)
    if members:
        return f"keys with values below it, `{key}` being one of {', '.join(members)}"
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _describe(inner, [*metadata, *more])
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join(_describe(part, metadata) for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return ", ".join(str(choice) for choice in get_args(annotation))
    if get_origin(annotation) is list:
        return f"a list of {_describe(get_args(annotation)[0], [])}"
    if get_origin(annotation) is dict or _section(annotation) is not None:
        return "keys with values below it"
    if any(SLUG in str(getattr(part, "pattern", "")) for part in metadata):
        return SLUG_RULE
    noun = {bool: "true, false", int: "a whole number", float: "a number", str: "text"}.get(annotation, "")
    return ", ".join([noun, *_ranges(metadata)])


def _ranges(metadata: list[Any]) -> Iterator[str]:
    for part in metadata:
        match part:
            case Gt(gt=bound):
                yield f"above {bound}"
            case Ge(ge=bound):
                yield f"at least {bound}"
            case Lt(lt=bound):
                yield f"below {bound}"
            case Le(le=bound):
                yield f"at most {bound}"


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


@dataclass(frozen=True, slots=True)
class _Spot:
    path: KeyPath
    annotation: Any
    field: FieldInfo | None


def _find(model: type[BaseModel], location: KeyPath) -> _Spot:
    """Follow pydantic's location as far as it names keys; beyond, it names the branches of a union."""
    path: KeyPath = ()
    annotation: Any = model
    field: FieldInfo | None = None
    for key in location:
        if members := _tagged(annotation)[1]:  # pydantic names the branch that the document chose: no key
            if key not in members:
                break
            field, annotation = None, members[str(key)]
            continue
        if (section := _section(annotation)) is not None:
            field = _fields(section).get(str(key))
            if field is None:
                break
            annotation = field.annotation
        elif get_origin(annotation) in (dict, list):
            field, annotation = None, get_args(annotation)[-1]
        else:
            break
        path = (*path, key)
    return _Spot(path, annotation, field)


def _tagged(annotation: Any) -> tuple[str, dict[str, type[BaseModel]]]:
    """The key that tells the branches of a union apart, and the branch of each of its values; none for other types."""
    if get_origin(annotation) is not Annotated:
        return "", {}
    union, *more = get_args(annotation)
    keys = [str(part.discriminator) for part in more if isinstance(part, FieldInfo) and part.discriminator]
    if not keys:
        return "", {}
    branches = get_args(union)
    return keys[0], {tag: part for part in branches for tag in get_args(part.model_fields[keys[0]].annotation)}


def _section(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


@cache
def _everywhere(model: type[BaseModel]) -> tuple[KeyPath, ...]:
    return tuple(_all_keys(model))


def _all_keys(model: type[BaseModel], above: KeyPath = ()) -> Iterator[KeyPath]:
    for name, field in _fields(model).items():
        yield (*above, name)
        if (section := _section(field.annotation)) is not None:
            yield from _all_keys(section, (*above, name))


def _lookup(document: Any, path: KeyPath) -> Any:
    for key in path:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return None
    return document
