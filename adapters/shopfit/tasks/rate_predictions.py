"""What was answered to `rate`, and its metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from shopfit.recipe.tasks import Task
from shopfit.tasks.metric import Weighted, mean_of_rows, metric, ratio
from shopfit.tasks.predictions import Floats, Predictions


@dataclass(frozen=True, slots=True)
class RatePredictions(Predictions):
    """N numbers.

    Args:
        scores: (N,) as predicted.
        gold: (N,) the right ones.
        low: the least score there can be.
        high: the largest.
    """

    task: ClassVar[Task] = "rate"

    scores: Floats
    gold: Floats
    low: float = 0.0
    high: float = 1.0

    @property
    def rows(self) -> int:
        """N, the rows predicted."""
        return len(self.scores)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The numbers of one or more parts of a test set."""
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.gold for part in parts]),
            min(part.low for part in parts),
            max(part.high for part in parts),
        )


@metric("rmse", bounded=False)
def rmse(predictions: RatePredictions, _: int) -> Weighted:
    """Root of the mean squared error. Lower is better."""
    squared = mean_of_rows((predictions.scores - predictions.gold) ** 2)
    return lambda weights: np.sqrt(squared(weights))


@metric("mae", bounded=False)
def mae(predictions: RatePredictions, _: int) -> Weighted:
    """Mean absolute error. Lower is better."""
    return mean_of_rows(np.abs(predictions.scores - predictions.gold))


@metric("spearman", bounded=False, paper="Spearman, The Proof and Measurement of Association between Two Things, 1904")
def spearman(predictions: RatePredictions, _: int) -> Weighted:
    """Correlation of the ranks of predicted and right scores, equal ones at their mean rank; nan if all are equal."""
    sides = [_Runs.of(values) for values in (predictions.scores, predictions.gold)]

    def of(weights: Floats) -> Floats:
        total = weights.sum(1, keepdims=True)
        first, second = (side.ranks(weights) - (total + 1) / 2 for side in sides)  # each (B, N), of mean 0
        both, one, other = ((weights * a * b).sum(1) for a, b in ((first, second), (first, first), (second, second)))
        return ratio(both, np.sqrt(one * other))

    return of


@metric("rating_ndcg", paper="Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002")
def rating_ndcg(predictions: RatePredictions, _: int) -> Weighted:
    """Normalised discounted cumulative gain of all rows, the best predicted first; a gain is the score above the least.

    Of equal predictions it is the expected value over their orders.
    """
    gains = predictions.gold - predictions.gold.min(initial=predictions.low)
    found, ideal = _Runs.of(-predictions.scores), _Runs.of(-predictions.gold)

    def of(weights: Floats) -> Floats:
        return ratio(found.discounted(weights, gains), ideal.discounted(weights, gains))

    return of


@dataclass(frozen=True, slots=True)
class _Runs:
    """N values in rising order, as runs of equal ones.

    Args:
        order: (N,) places of the values, the least first.
        run: (N,) number of the run of each place in that order.
        starts: (R,) where each run begins.
    """

    order: Any
    run: Any
    starts: Any

    @classmethod
    def of(cls, values: Floats) -> "_Runs":
        order = np.argsort(values, kind="stable")
        rising = values[order]
        new = np.concatenate([[True], rising[1:] != rising[:-1]])
        return cls(order, np.cumsum(new) - 1, np.flatnonzero(new))

    def ranks(self, weights: Floats) -> Floats:
        """(B, N) the mean rank of each value, from 1, where each row counts as often as its weight says."""
        inside = np.add.reduceat(weights[:, self.order], self.starts, 1)  # (B, R)
        mean = np.cumsum(inside, 1) - inside + (inside + 1) / 2
        ranks = np.empty_like(weights)
        ranks[:, self.order] = mean[:, self.run]
        return ranks

    def discounted(self, weights: Floats, gains: Floats) -> Floats:
        """(B,) discounted gain of the values in this order, those of a run at its mean discount."""
        mine = weights[:, self.order]
        inside = np.add.reduceat(mine, self.starts, 1)  # (B, R)
        gained = np.add.reduceat(mine * gains[self.order], self.starts, 1)
        behind = np.cumsum(inside, 1)
        most = int(behind[:, -1].max())
        discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(most) + 2))])
        place = behind.round().astype(np.int64)
        spans = discounts[place] - discounts[place - inside.round().astype(np.int64)]
        return (ratio(gained, inside) * spans).sum(1, where=inside > 0)  # type: ignore[no-any-return]
