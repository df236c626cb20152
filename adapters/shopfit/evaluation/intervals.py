"""95% intervals of metrics, for test sets that could have been drawn: percentile bootstrap over groups of rows.

Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapters 10 and 13. Resamples of few groups differ by less
than new test sets would, so the percentiles lie further out the fewer there are (Hesterberg, What Teachers Should Know
About the Bootstrap, 2015, section 3.2.2: the expanded percentile interval).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from shopfit.tasks import Predictions, Weighted, metric_of

Floats = NDArray[np.float64]
Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A float that is nan where it is undefined, and null in JSON then."""

_CELLS = 4_000_000  # weights held at once
_TAIL = 0.025
_BLOCKS = 1000  # groups that are left out one by one


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95% interval; all three are nan where the number is undefined.

    Args:
        value: measured on the test set.
        low: 2.5% of other test sets would give less.
        high: 2.5% of other test sets would give more.
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
        seed: of the draws; the same for every system, so that all have the same resamples.

    Raises:
        RecipeError: if it is no metric of the task.
    """
    return _interval([predictions], metric, k, groups, resamples, seed)


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
    if first.rows != second.rows:
        raise ValueError(f"a paired difference needs the same rows: got {first.rows} and {second.rows}")
    return _interval([first, second], metric, k, groups, resamples, seed)


def jackknife(
    first: Predictions, second: Predictions, metric: str, k: int = 10, groups: Sequence[str | None] = ()
) -> Floats:
    """Each group's share in the paired difference (Tukey's pseudo-values; Efron & Tibshirani, chapter 11).

    Of a mean over rows, a row's is its own difference. More than 1,000 groups are taken in blocks.

    Args:
        first: and the rest: as for `paired_difference`.
        second: see there.
        metric: see there.
        k: see there.
        groups: see there.

    Returns:
        (G,) a number a group; nan where the difference rests on that group alone.
    """
    rows = first.rows
    if not rows:
        return np.zeros(0)
    found = [metric_of(one.task, metric).of(one, k) for one in (first, second)]
    owner = _owners(rows, groups)
    count = int(owner.max()) + 1
    if count > _BLOCKS:
        owner, count = owner % _BLOCKS, _BLOCKS
    value = _difference(found, np.ones((1, rows)))
    if count == 1:
        return value
    said = [
        count * value - (count - 1) * _difference(found, (owner != np.arange(start, stop)[:, None]).astype(np.float64))
        for start, stop in _spans(count, max(1, _CELLS // rows))
    ]
    return np.concatenate(said)


def _interval(
    systems: Sequence[Predictions], metric: str, k: int, groups: Sequence[str | None], resamples: int, seed: int
) -> Interval:
    """Of one system's metric, or of the first one's less the second's."""
    defined, rows = [metric_of(one.task, metric) for one in systems], systems[0].rows
    found = [each.of(one, k) for each, one in zip(defined, systems, strict=True)] if rows else []
    value = float(_difference(found, np.ones((1, rows)))[0]) if rows else float("nan")
    if np.isnan(value):
        return Interval(value, value, value)
    drawn = np.concatenate([_difference(found, weights) for weights in _draws(rows, groups, resamples, seed)])
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    if any(each.drifts for each in defined):
        drawn = drawn + (value - drawn.mean())
        lowest, highest = (0.0, 1.0) if len(found) == 1 else (-1.0, 1.0)
        drawn = drawn.clip(lowest, highest)
    tail = 100 * _tail(len(set(_owners(rows, groups))))
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return Interval(value, min(float(low), value), max(float(high), value))  # rounding must not leave the value outside


def _difference(found: Sequence[Weighted], weights: Floats) -> Floats:
    values = found[0](weights)
    return values - found[1](weights) if len(found) == 2 else values


def _draws(rows: int, groups: Sequence[str | None], resamples: int, seed: int) -> Iterator[Floats]:
    """(B, N) weights at a time: how often each row is in each resample, the same within a group."""
    owner = _owners(rows, groups)
    names = int(owner.max()) + 1
    draw, chances = np.random.default_rng(seed), np.full(names, 1 / names)
    for start, stop in _spans(resamples, max(1, _CELLS // rows)):
        yield draw.multinomial(names, chances, size=stop - start)[:, owner].astype(np.float64)


def _spans(count: int, step: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, step):
        yield start, min(count, start + step)


def _owners(rows: int, groups: Sequence[str | None]) -> NDArray[np.int64]:
    """(N,) number of each row's group."""
    if groups and len(groups) != rows:
        raise ValueError(f"groups must name a group for each of the {rows} rows (or be empty): got {len(groups)}")
    names: dict[str | int, int] = {}
    keys = [row if group is None else group for row, group in enumerate(groups or [None] * rows)]
    return np.array([names.setdefault(key, len(names)) for key in keys], np.int64)


def _tail(groups: int) -> float:
    """Share of resamples beyond each end: 2.5% of many groups, less of few."""
    if groups < 2:
        return 0.0
    from scipy.stats import norm, t

    return float(norm.cdf(-np.sqrt(groups / (groups - 1)) * t.ppf(1 - _TAIL, groups - 1)))
