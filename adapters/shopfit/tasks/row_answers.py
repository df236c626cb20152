"""One row's answer beside the right one, as people compare versions row by row; and whether two answers differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.05
"""Of the range of a rating: what is nearer is the same."""
SHOWN_ITEMS = 5
"""Items of a ranking that are shown, the best first."""


@dataclass(frozen=True, slots=True)
class RankedRow:
    """An item of a ranking.

    Args:
        id: in the catalog.
        title: as the catalog prints it.
        share: its probability among all that were ranked.
        right: whether it is one of the right ones.
    """

    id: str
    title: str
    share: float
    right: bool


@dataclass(frozen=True, slots=True)
class RowAnswer:
    """What a version answered to a row.

    Args:
        said: the answer in words: a label, the title of the first item, a text, a number.
        merit: how right it is: the more the better; 1 at most.
        right: whether it is the right one; of a number, whether it is near.
        sure: the answer's probability; None where it has none.
        spread: of a number, how unsure it is, in its unit; None for other tasks, and where nobody knows.
        items: of a ranking, the first ones.
    """

    said: str
    merit: float
    right: bool
    sure: float | None = None
    spread: float | None = None
    items: tuple[RankedRow, ...] = ()


def span_of(labels: Sequence[str]) -> float:
    """The range of a rating's levels; 0 without levels."""
    levels = [float(label) for label in labels]
    return max(levels) - min(levels) if levels else 0.0


def differ(one: Mapping[str, Any], other: Mapping[str, Any], labels: Sequence[str]) -> bool:
    """Whether two versions disagree: by label, first item or text, or a number by more than 5% of its range.

    Args:
        one: answer, as JSON.
        other: answer.
        labels: of the second version; of a rating, its levels.
    """
    if "items" in one:
        return bool(_first(one) != _first(other))
    if "score" in one:
        return bool(abs(one["score"] - other["score"]) > TOLERANCE * span_of(labels))
    return any(one[name] != other[name] for name in ("label", "text") if name in one)


def _first(answer: Mapping[str, Any]) -> Any:
    items = answer["items"]
    return items[0]["id"] if items else None
