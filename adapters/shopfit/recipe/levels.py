"""The levels of a rating: the numbers that a model weighs, whose mean is its answer."""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from math import floor, log10

from shopfit.recipe.suggestions import shown

_MOST_WHOLE = 10  # steps of one between the bounds, if these are whole numbers
_STEPS = 10  # else
_DIGITS = 4  # after the first of the range, which a level between the bounds is rounded to
_LARGEST = 1e12


def bounds_of(bounds: Sequence[float] | None, labels: Mapping[str, str]) -> tuple[float, float] | None:
    """The least and the largest rating that a recipe allows; None if it leaves that to the data.

    Args:
        bounds: the recipe's `data.bounds`.
        labels: its `prompt.labels`, whose names are levels.
    """
    if bounds:
        return bounds[0], bounds[1]
    levels = [float(label) for label in labels]
    return (min(levels), max(levels)) if levels else None


def levels_between(low: float, high: float) -> tuple[str, ...]:
    """Levels from one bound to the other, as they are written: every whole number, or eleven evenly spaced ones.

    They rise, and the first and the last are the bounds exactly; of bounds that are next to each other there are fewer.
    """
    if low.is_integer() and high.is_integer() and high - low <= _MOST_WHOLE:
        return tuple(str(level) for level in range(int(low), int(high) + 1))
    digits = _DIGITS - floor(log10(high - low))
    between = (round(low + (high - low) * step / _STEPS, digits) + 0.0 for step in range(1, _STEPS))
    return tuple(dict.fromkeys(repr(level).removesuffix(".0") for level in (low, *between, high)))


def level_problems(bounds: Sequence[float] | None, labels: Mapping[str, str]) -> list[str]:
    """What is wrong with a recipe's bounds and levels; empty if nothing is."""
    problems = []
    if bounds is not None and not (len(bounds) == 2 and -_LARGEST <= bounds[0] < bounds[1] <= _LARGEST):
        problems.append(
            f"data.bounds: {list(bounds)} is no range (allowed: the least and the largest score, as [1, 5])"
        )
    strange = [label for label in labels if not _is_number(label)]
    problems += [
        f"prompt.labels: {shown(label)} is no level of a rating (allowed: a number such as '1', or no labels)"
        for label in strange
    ]
    if problems or not labels:
        return problems
    levels = [float(label) for label in labels]
    if any(first >= second for first, second in pairwise(levels)):
        problems.append("prompt.labels: levels of a rating rise (allowed: the least first, each once)")
    elif bounds is not None and [levels[0], levels[-1]] != list(bounds):
        problems.append(
            f"prompt.labels: levels go from {levels[0]:g} to {levels[-1]:g} (allowed: those of data.bounds)"
        )
    return problems


def are_levels(labels: Collection[str]) -> bool:
    """Whether labels are numbers, two of which differ: what a mean can be made of."""
    return all(map(_is_number, labels)) and len({float(label) for label in labels}) > 1


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST and "_" not in text
    except ValueError:
        return False
