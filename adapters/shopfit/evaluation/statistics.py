"""Metrics as functions of row weights, so that a thousand resamples of a test set are a few matrix products.

`metrics` defines every metric; here the same numbers come from what each row adds to them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shopfit.evaluation.metrics import check_metric, task_of
from shopfit.evaluation.metrics.answers import as_text, field_counts, is_exact, parse_object, token_f1
from shopfit.evaluation.metrics.calibration import BINS, calibration_gaps
from shopfit.evaluation.metrics.ranking import Ranking
from shopfit.evaluation.predictions import ChoosePredictions, GeneratePredictions, Predictions, RankPredictions

Floats = NDArray[np.float64]
_NEVER_UNSEEN = -700.0  # log of a probability that is as good as 0, yet can be multiplied by 0


@dataclass(frozen=True, slots=True)
class Statistic:
    """A metric of one system on N rows.

    Args:
        of: (B, N) weights, how often each row is in each of B resamples -> (B,) values, nan where undefined.
        drifts: whether resamples differ from the value by construction, not by chance: repeated rows cover fewer items
            and make bins look less calibrated.
    """

    of: Callable[[Floats], Floats]
    drifts: bool = False


def statistic(predictions: Predictions, metric: str, k: int) -> Statistic:
    """The metric of a system, ready for weights.

    Args:
        predictions: of the system on N rows.
        metric: of the predictions' task, as the recipe calls it.
        k: cut-off of the @k metrics.

    Raises:
        RecipeError: if it is no metric of the task.
    """
    check_metric(metric, task_of(predictions))
    if isinstance(predictions, ChoosePredictions):
        return _choose(predictions, metric)
    if isinstance(predictions, RankPredictions):
        return _rank(predictions, metric, k)
    return _generate(predictions, metric)


def _choose(predictions: ChoosePredictions, metric: str) -> Statistic:
    probabilities, gold = predictions.probabilities, predictions.gold
    chosen, labels = probabilities.argmax(1), np.arange(probabilities.shape[1])
    match metric:
        case "accuracy":
            return _mean(chosen == gold)
        case "log_loss":
            tiny = np.finfo(np.float64).eps  # as scikit-learn clips it
            return _mean(-np.log(probabilities[np.arange(len(gold)), gold].clip(tiny, 1 - tiny)))
        case "auc":
            return Statistic(_area(probabilities, gold))
        case "ece":
            bins, gaps = calibration_gaps(probabilities, gold)
            spread = np.where(bins[:, None] == np.arange(BINS), gaps[:, None], 0.0)  # (N, BINS)
            return Statistic(lambda weights: np.abs(weights @ spread).sum(1) / weights.sum(1), drifts=True)
    is_gold, is_chosen = gold[:, None] == labels, chosen[:, None] == labels  # (N, L)
    counted = np.hstack([is_gold & is_chosen, is_gold, is_chosen]).astype(np.float64)

    def of(weights: Floats) -> Floats:
        hits, right, guessed = np.split(weights @ counted, 3, 1)  # each (B, L)
        if metric == "macro_f1":
            return _average(_ratio(2 * hits, right + guessed))
        return _average(_ratio(hits, right))

    return Statistic(of)


def _area(probabilities: Floats, gold: NDArray[np.int64]) -> Callable[[Floats], Floats]:
    """ROC area as the share of (positive, negative) pairs in the right order, ties a half (Mann & Whitney 1947)."""
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    sides = []
    for column in columns:
        order = np.argsort(probabilities[:, column], kind="stable")
        rising = probabilities[order, column]
        starts = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))  # of each run of equal scores
        sides.append((order, starts, (gold[order] == column).astype(np.float64)))

    def of(weights: Floats) -> Floats:
        areas = np.empty((len(weights), len(sides)))
        for place, (order, starts, positive) in enumerate(sides):
            sorted_weights = weights[:, order]
            above = np.add.reduceat(sorted_weights * positive, starts, 1)  # (B, runs) positives of each score
            below = np.add.reduceat(sorted_weights * (1 - positive), starts, 1)
            pairs = (above * (np.cumsum(below, 1) - below / 2)).sum(1)
            areas[:, place] = _ratio(pairs, above.sum(1) * below.sum(1))
        return _average(areas)

    return of


def _rank(predictions: RankPredictions, metric: str, k: int) -> Statistic:
    rows = zip(predictions.candidates, predictions.scores, predictions.relevant, strict=True)
    rankings = [Ranking.of(*row) for row in rows]
    match metric:
        case "ndcg@k":
            return _mean([ranking.ndcg(k) for ranking in rankings])
        case "hr@k":
            return _mean([ranking.hit_rate(k) for ranking in rankings])
        case "mrr":
            return _mean([ranking.reciprocal_rank() for ranking in rankings])
    columns: dict[str, int] = {}
    shares = [ranking.in_top(k) for ranking in rankings]
    for items, share in zip(predictions.candidates, shares, strict=True):
        for place in np.flatnonzero(share):
            columns.setdefault(items[place], len(columns))
    unseen = np.zeros((len(rankings), len(columns)))  # log-probability that the row does not show the item
    with np.errstate(divide="ignore"):
        for row, (items, share) in enumerate(zip(predictions.candidates, shares, strict=True)):
            shown = np.flatnonzero(share)
            unseen[row, [columns[items[place]] for place in shown]] = np.log1p(-share[shown]).clip(min=_NEVER_UNSEEN)
    size = predictions.catalog_size or np.nan

    def of(weights: Floats) -> Floats:
        return -np.expm1(weights @ unseen).sum(1) / size  # type: ignore[no-any-return]

    return Statistic(of, drifts=True)


def _generate(predictions: GeneratePredictions, metric: str) -> Statistic:
    rows = list(zip(predictions.outputs, map(as_text, predictions.gold), strict=True))
    match metric:
        case "valid_json":
            return _mean([parse_object(output) is not None for output, _ in rows])
        case "exact_match":
            return _mean([is_exact(output, gold) for output, gold in rows])
        case "token_f1":
            return _mean([token_f1(output, gold) for output, gold in rows])
    counts = np.array([field_counts(output, gold) for output, gold in rows], np.float64).reshape(-1, 3)

    def of(weights: Floats) -> Floats:
        right, extra, missing = (weights @ counts).T
        return _ratio(2 * right, 2 * right + extra + missing)

    return Statistic(of)


def _mean(contributions: Any) -> Statistic:
    rows = np.asarray(contributions, np.float64)
    return Statistic(lambda weights: _ratio(weights @ rows, weights.sum(1)))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Quotient, nan where the divisor is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)


def _average(values: Floats) -> Floats:
    """Mean over the second axis of what is not nan; nan where all is."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0.0).sum(1), known.sum(1).astype(np.float64))
