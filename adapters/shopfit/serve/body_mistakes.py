"""What is wrong with a request's body, in our words: each mistake once, at its place in what was sent."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from shopfit.errors import Problem
from shopfit.recipe.suggestions import did_you_mean, shown

_ALLOWED = "Input should be "  # pydantic's words before what is
_MOST = 50  # that are told
_LONGEST = 200  # characters of a place

Place = tuple[str | int, ...]


def mistakes(errors: Sequence[Mapping[str, Any]], body: Any, model: Any) -> list[Problem]:
    """Every mistake of a request.

    Args:
        errors: as pydantic tells them: of a value that may be of several kinds, one for each kind.
        body: as it was sent.
        model: type of the body, whose names are for a "did you mean"; None if it is not known.
    """
    found: dict[tuple[Place, str], list[str]] = {}
    for error in errors:
        place = _place(error, body)
        what, allowed = _said(error, sorted(names_at(model, place[:-1])))
        kinds = found.setdefault((place, what), [])
        if allowed and allowed not in kinds:
            kinds.append(allowed)
    deepest = {place[:length] for place, _ in found for length in range(len(place))}
    told = [
        Problem(_named(place), what, " or ".join(kinds))
        for (place, what), kinds in found.items()
        if not kinds or place not in deepest  # that of a part says it better
    ]
    return told[:_MOST]


def _place(error: Mapping[str, Any], body: Any) -> Place:
    """Where in the body an error is, without the kinds of values that pydantic names in between."""
    source, *parts = error["loc"]
    if source != "body":
        return tuple(parts)
    place: list[str | int] = []
    here = body
    for part in parts:
        inside = part in here if isinstance(here, dict) else isinstance(here, list) and part in range(len(here))
        if inside:
            here = here[part]
            place.append(part)
    if error["type"] == "missing":
        place += parts[-1:]  # none if the body itself is
    return tuple(place)


def names_at(kind: Any, place: Place) -> set[str]:
    """The names that an object at a place may have.

    Args:
        kind: type of the body: a model, a union, a list or a dictionary of such.
        place: in the body, as it was sent.
    """
    names: set[str] = set()
    for one in _each(kind):
        if place:
            for inside in _inside(one, place[0]):
                names |= names_at(inside, place[1:])
        elif isinstance(one, type) and issubclass(one, BaseModel):
            names |= {field.alias or name for name, field in one.model_fields.items()}
    return names


def _each(kind: Any) -> Iterator[Any]:
    """The kinds that a union has; else the kind itself."""
    if get_origin(kind) is Annotated:
        yield from _each(get_args(kind)[0])
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _each(one)
    else:
        yield kind


def _inside(kind: Any, step: str | int) -> Iterator[Any]:
    """The kinds that a part of a value of some kind may be of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield from (field.annotation for name, field in kind.model_fields.items() if step in (name, field.alias))
    elif get_origin(kind) in (list, dict):
        yield get_args(kind)[-1]


def _said(error: Mapping[str, Any], known: Iterable[str]) -> tuple[str, str]:
    """What is wrong, and what is allowed."""
    kind, message = error["type"], str(error["msg"])
    if kind == "extra_forbidden":
        return f"there is no such field{did_you_mean(str(error['loc'][-1]), known)}", ""
    if kind == "json_invalid":
        return f"it is not JSON: {error.get('ctx', {}).get('error', '')}", ""
    if kind == "missing":
        return "it is missing", ""
    if isinstance(error["input"], bytes):  # FastAPI leaves unread what is not said to be JSON
        return "it is not said to be JSON", "the header `Content-Type: application/json`"
    if message.startswith(_ALLOWED):
        return f"it is {shown(error['input'])}", message.removeprefix(_ALLOWED).partition(" or instance of ")[0]
    return message, ""


def _named(place: Place) -> str:
    name = ".".join(map(str, place)) or "body"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
