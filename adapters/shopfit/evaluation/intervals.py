"""How sure a number is, given that another test set could have been drawn: percentile bootstrap over groups of rows.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 10 and 13.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from shopfit.evaluation.predictions import ChoosePredictions, Predictions, RankPredictions
from shopfit.evaluation.statistics import Statistic, statistic

Floats = NDArray[np.float64]
Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A float that is nan where it is undefined, and null in JSON then."""

_CELLS = 4_000_000  # weights held at once
_TAILS = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95% interval; all three are nan where the number is undefined.

    Args:
        value: measured on the test set.
        low: 2.5% of resampled test sets give less.
        high: 2.5% of resampled test sets give more.
    """

    value: Number
    low: Number
    high: Number

    @property
    def defined(self) -> bool:
        """Whether there is a number at all."""
        return not np.isnan(self.value)


def bootstrap(
    predictions: Predictions,
    metric: str,
    k: int = 10,
    groups: Sequence[str | None] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A system's metric with its 95% interval.

    Args:
        predictions: of the system on N rows.
        metric: of the predictions' task.
        k: cut-off of the @k metrics.
        groups: N names; rows of one group, such as a shopper's, are drawn together. None is a group of its own, and
            so is every row if this is empty.
        resamples: test sets drawn, at least 1.
        seed: of the draws; the same for every system, so that all meet the same test sets.

    Raises:
        RecipeError: if it is no metric of the task.
    """
    found = statistic(predictions, metric, k)
    return _interval([found], rows_of(predictions), groups, resamples, seed)


def paired_difference(
    first: Predictions,
    second: Predictions,
    metric: str,
    k: int = 10,
    groups: Sequence[str | None] = (),
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """The metric of the first system minus that of the second, on the same rows, with its 95% interval.

    Both are measured on the same resamples, so what makes a test set easy for both cancels out. Arguments and
    errors are those of `bootstrap`.
    """
    if rows_of(first) != rows_of(second):
        raise ValueError(f"a paired difference needs the same rows: got {rows_of(first)} and {rows_of(second)}")
    found = [statistic(predictions, metric, k) for predictions in (first, second)]
    return _interval(found, rows_of(first), groups, resamples, seed)


def rows_of(predictions: Predictions) -> int:
    """N, the rows predicted."""
    if isinstance(predictions, ChoosePredictions):
        return len(predictions.gold)
    return len(predictions.scores) if isinstance(predictions, RankPredictions) else len(predictions.outputs)


def _interval(
    found: Sequence[Statistic], rows: int, groups: Sequence[str | None], resamples: int, seed: int
) -> Interval:
    value = float(_difference(found, np.ones((1, rows)))[0]) if rows else float("nan")
    if np.isnan(value):
        return Interval(value, value, value)
    drawn = np.concatenate([_difference(found, weights) for weights in _draws(rows, groups, resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    if any(one.drifts for one in found):
        drawn = drawn + (value - drawn.mean())
        lowest, highest = (0.0, 1.0) if len(found) == 1 else (-1.0, 1.0)
        drawn = drawn.clip(lowest, highest)
    low, high = np.percentile(drawn, _TAILS)
    return Interval(value, min(float(low), value), max(float(high), value))  # rounding must not leave the value outside


def _difference(found: Sequence[Statistic], weights: Floats) -> Floats:
    values = found[0].of(weights)
    return values - found[1].of(weights) if len(found) == 2 else values


def _draws(rows: int, groups: Sequence[str | None], resamples: int, seed: int) -> Iterator[Floats]:
    """(B, N) weights at a time: how often each row is in each resample, the same within a group."""
    if groups and len(groups) != rows:
        raise ValueError(f"groups must name a group for each of the {rows} rows (or be empty): got {len(groups)}")
    names: dict[str | int, int] = {}
    keys = [row if group is None else group for row, group in enumerate(groups or [None] * rows)]
    owner = np.array([names.setdefault(key, len(names)) for key in keys])
    draw, chances = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    step = max(1, _CELLS // rows)
    for start in range(0, resamples, step):
        counts = draw.multinomial(len(names), chances, size=min(step, resamples - start))
        yield counts[:, owner].astype(np.float64)
