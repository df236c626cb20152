"""What is wrong with a request's body, in our words: each mistake once, at its place in what was sent."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shopfit.errors import Problem
from shopfit.recipe.suggestions import did_you_mean, shown

_ALLOWED = "Input should be "  # pydantic's words before what is
_MOST = 50  # that are told
_LONGEST = 200  # characters of a place

Place = tuple[str | int, ...]


def mistakes(errors: Sequence[Mapping[str, Any]], body: Any, known: Iterable[str]) -> list[Problem]:
    """Every mistake of a request.

    Args:
        errors: as pydantic tells them: of a value that may be of several kinds, one for each kind.
        body: as it was sent.
        known: names that the body may have, for a "did you mean".
    """
    found: dict[tuple[Place, str], list[str]] = {}
    for error in errors:
        place = _place(error, body)
        what, allowed = _said(error, known if len(place) == 1 else ())
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
