"""A metric, defined once: as a function of row weights, how often each row is in a resample.

So a thousand bootstrap resamples are a few matrix products; the plain value is that at weights of 1.
A definition stands in the file of its task, under `@metric`; its name and direction are in the recipe's table.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from shopfit.tasks.predictions import Floats, Predictions

Answers = TypeVar("Answers", bound=Predictions)
Weighted = Callable[[Floats], Floats]
"""(B, N) weights, how often each row is in each of B resamples -> (B,) values, nan where undefined."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[Answers]):
    """A metric of one task.

    Args:
        name: as recipes and reports call it.
        what: it is, in words.
        of: predictions of N rows, at least one, and the cut-off of the @k metrics -> its values at row weights.
        mean: whether it is a mean over rows of what lies in [0, 1], so that a gain is a mean over rows, too.
        by_label: choose: whether a label that no row has might change it: a mean over labels, or without bound.
        bounded: whether it lies in [0, 1].
        drifts: whether resamples differ from the value by construction, not by chance: repeated rows cover fewer items
            and make bins look less calibrated.
        paper: where it comes from; empty for well-known ones.
    """

    name: str
    what: str
    of: Callable[[Answers, int], Weighted]
    mean: bool = False
    by_label: bool = False
    bounded: bool = True
    drifts: bool = False
    paper: str = ""

    def value(self, predictions: Answers, k: int = 10) -> float:
        """The metric of N rows; nan where it is undefined, and without rows."""
        if not predictions.rows:
            return float("nan")
        return float(self.of(predictions, k)(np.ones((1, predictions.rows)))[0])


DEFINED: dict[str, Metric[Any]] = {}
"""Every metric by its name."""


def metric(
    name: str,
    *,
    mean: bool = False,
    by_label: bool = False,
    bounded: bool = True,
    drifts: bool = False,
    paper: str = "",
) -> Callable[[Callable[[Answers, int], Weighted]], Callable[[Answers, int], Weighted]]:
    """Put a definition into the table, its docstring as what it is; arguments are those of `Metric`.

    Raises:
        ValueError: if there is a metric of that name, of whichever task.
    """

    def define(of: Callable[[Answers, int], Weighted]) -> Callable[[Answers, int], Weighted]:
        if name in DEFINED:
            there = DEFINED[name].of.__module__
            raise ValueError(
                f"the metric {name!r} of {of.__module__} is there already, in {there}: give it another name"
            )
        DEFINED[name] = Metric(name, inspect.getdoc(of) or name, of, mean, by_label, bounded, drifts, paper)
        return of

    return define


def mean_of_rows(merits: Any) -> Weighted:
    """The mean of N rows' own values."""
    rows = np.asarray(merits, np.float64)
    return lambda weights: ratio(weights @ rows, weights.sum(1))


def ratio(above: Floats, below: Floats) -> Floats:
    """Quotient, nan where the divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)


def mean_of_known(values: Floats) -> Floats:
    """Mean over the second axis of what is not nan; nan where all is."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(1), known.sum(1).astype(np.float64))
