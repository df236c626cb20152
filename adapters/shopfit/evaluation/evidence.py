"""The evidence for a gain: its paired interval, the rows it rests on, and how many rows would decide.

The bootstrap interval of few rows is too narrow: its width is 0 where all rows agree, and it knows nothing of labels
that no row has. So a gain is proven only by enough rows, of which enough tell the two systems apart, and the most that
labels without rows might take away is subtracted. docs/benchmarks/gate.md has how often this and other rules are wrong.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from shopfit.evaluation.intervals import Interval, jackknife, paired_difference
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import Predictions, metric_of

LEAST_TELLING = 6  # groups: that fewer all favour one of two equals happens by chance in more than 2.5% of all cases
LEAST_ROWS = 20  # groups, where the metric is no mean of bounded rows: its interval is too narrow for fewer
NATS = 2.0  # of all examples together: odds of seven to one
NATS_AN_EXAMPLE = 0.01  # that a replacement must be better by
_POWER = 1.96 + 0.84  # standard errors away, a gain is proven four times in five (Cohen, 1988, section 2.4)
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence of N rows for one system's gain over another.

    Args:
        gain: positive where the first system is better, also where lower values are.
        low: its lower end, less what labels that no row has might still take away; nan if nothing can be said.
        rows: N.
        groups: of rows that belong together, such as a shopper's; N where none do.
        telling: of these, how many tell the two systems apart.
        wanted: groups that it takes at least to prove anything on this metric.
        spread: standard deviation of the groups' pseudo-values of the gain; nan if it rests on a single group.
        unseen: labels of the merchant's that no row has, where the metric depends on all of them.
    """

    gain: Interval
    low: float
    rows: int
    groups: int
    telling: int
    wanted: int
    spread: float
    unseen: tuple[str, ...] = ()

    def proves(self, least: float) -> bool:
        """Whether the gain is above `least`, and not by chance."""
        return (
            self.low > least + _ROUNDING
            and self.groups >= self.wanted
            and self.telling >= LEAST_TELLING
            and not math.isnan(self.spread)
        )

    def rows_to_decide(self, least: float) -> int | None:
        """About how many rows like these would prove the gain, were it what it seems to be.

        The number at which four of five test sets would do; None if the gain is not above `least`, or undefined.
        """
        beyond = self.gain.value - least
        if not beyond > _ROUNDING:
            return None
        spread = 0.0 if math.isnan(self.spread) else self.spread
        wanted = max(self.wanted, (_POWER * spread / beyond) ** 2)
        if self.telling < LEAST_TELLING:
            wanted = max(wanted, self.groups * LEAST_TELLING / max(1, self.telling))
        rows = math.ceil(wanted * self.rows / self.groups - _ROUNDING)
        return rows if self.proves(least) else max(rows, self.rows + 1)


def weigh(
    first: Predictions,
    second: Predictions,
    metric: str,
    k: int = 10,
    groups: Sequence[str | None] = (),
    resamples: int = 1000,
    seed: int = 0,
    labels: Collection[str] | None = None,
) -> Evidence:
    """The evidence for the first system's gain over the second, on rows that both answered.

    Args:
        first: the system that is to be better.
        second: its rival, on the same N rows.
        metric: of the predictions' task.
        k: cut-off of the @k metrics.
        groups: N names, or empty (see `bootstrap`).
        resamples: see there.
        seed: see there.
        labels: choose: those that the merchant's examples have; by default all that can be answered.

    Raises:
        RecipeError: if it is no metric of the task.
    """
    defined = metric_of(first.task, metric)
    pair = (second, first) if METRICS[metric].lower_is_better else (first, second)
    gain = paired_difference(*pair, metric, k, groups, resamples, seed)
    said = jackknife(*pair, metric, k, groups)
    known, unseen = first.labels_seen(labels) if defined.by_label else ((), ())
    share = len(unseen) / len(known) if known else 0.0
    low = math.nan if unseen and not defined.bounded else (1 - share) * gain.low - share
    return Evidence(
        gain=gain,
        low=low,
        rows=first.rows,
        groups=len(said),
        telling=int((np.abs(said) > _ROUNDING).sum()),
        wanted=LEAST_TELLING if defined.mean else LEAST_ROWS,
        spread=float(said.std(ddof=1)) if len(said) > 1 else math.nan,
        unseen=unseen,
    )


def mean_of(parts: Sequence[Evidence]) -> Evidence:
    """The evidence for the mean of several merchants' gains, each weighing the same; by Student's t.

    Args:
        parts: of different rows, at least one.
    """
    from scipy.stats import t

    count, groups = len(parts), sum(one.groups for one in parts)
    value = float(np.mean([one.gain.value for one in parts]))
    variances = [one.spread**2 / one.groups if one.groups else math.nan for one in parts]
    error = math.sqrt(sum(variances)) / count
    freedom = max(1, groups - count)
    gain = Interval(value, *(value + side * float(t.ppf(0.975, freedom)) * error for side in (-1, 1)))
    away = [one.gain.low - one.low for one in parts]  # for labels that no row has
    return Evidence(
        gain=gain,
        low=gain.low - sum(away) / count,
        rows=sum(one.rows for one in parts),
        groups=groups,
        telling=sum(one.telling for one in parts),
        wanted=max(one.wanted for one in parts),
        spread=error * math.sqrt(groups),
        unseen=tuple(dict.fromkeys(label for one in parts for label in one.unseen)),
    )
