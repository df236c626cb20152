"""The levels of a rating: the numbers that a model weighs, whose mean is its answer."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import floor, log10

from shopfit.recipe.suggestions import shown

_MOST_WHOLE = 10  # steps of one between the bounds, if these are whole numbers
_STEPS = 10  # else
_DIGITS = 4  # after the first of the range, which a level between the bounds is rounded to
_LARGEST = 1e12
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


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
    return tuple(dict.fromkeys(as_written(level) for level in (low, *between, high)))


def level_problems(bounds: Sequence[float] | None, labels: Mapping[str, str]) -> list[str]:
    """What is wrong with a recipe's bounds and levels; empty if nothing is."""
    problems = []
    if bounds is not None and not (len(bounds) == 2 and -_LARGEST <= bounds[0] < bounds[1] <= _LARGEST):
        problems.append(
            f"data.bounds: {list(bounds)} is no range (allowed: the least and the largest score, as [1, 5])"
        )
    if labels:
        wanted = None if problems or bounds is None else (bounds[0], bounds[1])
        problems += [f"prompt.labels: {problem}" for problem in _wrong_levels([*labels], wanted)]
    return problems


def kept_level_problems(levels: Sequence[str], bounds: Sequence[float] | None, labels: Mapping[str, str]) -> list[str]:
    """Why the levels that a bundle names cannot be those of its recipe's bounds and labels; empty if they can."""
    if len(levels) < 2:
        return ["one level leaves nothing to weigh (allowed: at least two)"]
    return _wrong_levels(levels, bounds_of(bounds, labels))


def _wrong_levels(levels: Sequence[str], wanted: tuple[float, float] | None) -> list[str]:
    strange = [level for level in levels if not _is_number(level)]
    if strange:
        allowed = "a number such as '1', or no labels"
        return [f"{shown(level)} is no level of a rating (allowed: {allowed})" for level in strange]
    numbers = [float(level) for level in levels]
    if any(first >= second for first, second in pairwise(numbers)):
        return ["levels of a rating rise (allowed: the least first, each once)"]
    if wanted is not None and wanted != (numbers[0], numbers[-1]):
        ends, bounds = (" to ".join(map(as_written, pair)) for pair in ((numbers[0], numbers[-1]), wanted))
        return [f"levels go from {ends} (allowed: from {bounds}, the bounds)"]
    return []


def as_written(number: float) -> str:
    """A bound as a person writes it: exactly, and a whole number without `.0`."""
    return repr(float(number)).removesuffix(".0")


def _is_number(text: str) -> bool:
    """Whether a level is written as a number, with nothing around it: its name goes into messages and manifests."""
    return _NUMBER.fullmatch(text) is not None and abs(float(text)) <= _LARGEST
