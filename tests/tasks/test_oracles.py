"""Every metric against a definition of somebody else's, on rows with ties, as scikit-learn has it where it has it."""

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn

from shopfit.evaluation import measure
from shopfit.evaluation.metrics import module
from shopfit.recipe.tasks import METRICS, TASKS
from shopfit.tasks import ChoosePredictions, GeneratePredictions, RankPredictions, metric_of, task_of
from shopfit.tasks.rate_predictions import RatePredictions

EXACT = 1e-12


def choices(labels: int, rows: int, seed: int, *, present: int | None = None) -> ChoosePredictions:
    draw = np.random.default_rng(seed)
    gold = draw.integers(0, present or labels, rows)
    scores = np.exp(np.round(draw.normal(size=(rows, labels)) + np.eye(labels)[gold], 1))
    return ChoosePredictions(tuple("abcdefgh"[:labels]), scores / scores.sum(1, keepdims=True), gold)


def area(predictions: ChoosePredictions) -> float:
    gold, table = predictions.gold, predictions.probabilities
    columns = [1] if table.shape[1] == 2 else range(table.shape[1])
    split = [label for label in columns if 0 < (gold == label).sum() < len(gold)]
    return float(np.mean([sklearn.roc_auc_score(gold == label, table[:, label]) for label in split]))


def calibration_error(predictions: ChoosePredictions) -> float:
    """Over bins that are open below and closed above."""
    sure, right = predictions.probabilities.max(1), predictions.chosen == predictions.gold
    total = 0.0
    for place in range(15):
        inside = (sure > place / 15) & (sure <= (place + 1) / 15)
        total += abs(float((right[inside] - sure[inside]).sum()))
    return total / predictions.rows


CHOOSE: dict[str, Any] = {
    "accuracy": lambda one: sklearn.accuracy_score(one.gold, one.chosen),
    "macro_f1": lambda one: sklearn.f1_score(one.gold, one.chosen, average="macro", zero_division=0),
    "balanced_accuracy": lambda one: sklearn.balanced_accuracy_score(one.gold, one.chosen),
    "auc": area,
    "log_loss": lambda one: sklearn.log_loss(one.gold, one.probabilities, labels=range(len(one.labels))),
    "ece": calibration_error,
}


@pytest.mark.parametrize("name", CHOOSE)
@pytest.mark.parametrize(("labels", "present"), [(2, 2), (3, 3), (6, 6), (6, 4)])
def test_choices_are_worth_what_scikit_learn_says(name: str, labels: int, present: int) -> None:
    for seed in range(5):
        predictions = choices(labels, 97, seed, present=present)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true", UserWarning)
            expected = CHOOSE[name](predictions)
        assert measure(predictions, [name])[name] == pytest.approx(expected, abs=EXACT)


def test_rankings_are_worth_what_scikit_learn_says() -> None:
    draw = np.random.default_rng(1)
    items = tuple(f"i{number}" for number in range(12))
    rows = [(np.round(draw.normal(size=12)), frozenset(draw.choice(items, 3, replace=False))) for _ in range(60)]
    predictions = RankPredictions((items,) * 60, tuple(row for row, _ in rows), tuple(right for _, right in rows), 12)
    gains = [[float(item in right) for item in items] for _, right in rows]
    expected = sklearn.ndcg_score(gains, [row for row, _ in rows], k=5)
    assert measure(predictions, ["ndcg@k"], 5)["ndcg@k"] == pytest.approx(expected, abs=EXACT)


def test_coverage_is_the_chance_of_each_item_to_be_shown_at_all() -> None:
    draw = np.random.default_rng(2)
    pools = tuple(tuple(f"i{item}" for item in draw.permutation(60)[: draw.integers(5, 20)]) for _ in range(40))
    scores = tuple(np.round(draw.normal(size=len(pool))) for pool in pools)
    predictions = RankPredictions(pools, scores, (frozenset(["i1"]),) * 40, 60)
    unseen: dict[str, float] = {}
    for pool, ranking in zip(pools, predictions.rankings, strict=True):
        for item, share in zip(pool, ranking.in_top(3).tolist(), strict=True):
            unseen[item] = unseen.get(item, 1.0) * (1 - share)
    expected = sum(1 - chance for chance in unseen.values()) / 60
    assert measure(predictions, ["coverage@k"], 3)["coverage@k"] == pytest.approx(expected, abs=EXACT)


def ratings(rows: int, seed: int, *, decimals: int = 0) -> RatePredictions:
    draw = np.random.default_rng(seed)
    gold = draw.integers(1, 6, rows).astype(np.float64)
    return RatePredictions(np.round(gold + draw.normal(size=rows), decimals).clip(1, 5), gold, 1.0, 5.0)


RATE: dict[str, Any] = {
    "rmse": lambda one: sklearn.root_mean_squared_error(one.gold, one.scores),
    "mae": lambda one: sklearn.mean_absolute_error(one.gold, one.scores),
    "spearman": lambda one: stats.spearmanr(one.gold, one.scores).statistic,
    "rating_ndcg": lambda one: sklearn.ndcg_score([one.gold - one.low], [one.scores]),
}


@pytest.mark.parametrize("name", RATE)
@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_ratings_are_worth_what_scikit_learn_and_scipy_say(name: str, decimals: int) -> None:
    for seed in range(5):
        predictions = ratings(41, seed, decimals=decimals)
        assert measure(predictions, [name])[name] == pytest.approx(RATE[name](predictions), abs=EXACT)


@pytest.mark.parametrize("name", RATE)
def test_a_rating_that_counts_twice_is_a_rating_that_is_there_twice(name: str) -> None:
    predictions = ratings(23, 6)
    weights = np.random.default_rng(7).integers(0, 4, (8, 23)).astype(np.float64)
    weights[0], weights[1] = 1, 2
    found = metric_of("rate", name).of(predictions, 10)(weights)
    for row, value in zip(weights, found, strict=True):
        there = np.repeat(np.arange(23), row.astype(np.int64))
        repeated = RatePredictions(predictions.scores[there], predictions.gold[there], 1.0, 5.0)
        assert value == pytest.approx(measure(repeated, [name])[name], abs=EXACT)
        assert value == pytest.approx(RATE[name](repeated), abs=EXACT)


def test_of_ratings_that_are_all_the_same_only_errors_are_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(RatePredictions(np.full(3, 0.1), np.full(3, 0.3), 0.3, 1.0), list(RATE))
        nothing = measure(RatePredictions(np.zeros(0), np.zeros(0)), list(RATE))
    assert found == pytest.approx({"rmse": 0.2, "mae": 0.2, "spearman": math.nan, "rating_ndcg": math.nan}, nan_ok=True)
    assert all(math.isnan(value) for value in nothing.values())


@pytest.mark.parametrize("name", METRICS)
def test_each_row_there_once_is_the_plain_value_and_twice_changes_nothing(name: str) -> None:
    rank = RankPredictions(
        (("a", "b"), ("b", "c")), (np.array([1.0, 1.0]), np.array([2.0, 1.0])), (frozenset("a"),) * 2, 5
    )
    texts = GeneratePredictions(('{"a": 1}', '{"a": 2, "b": 1}'), ({"a": 1}, {"a": 1}))
    predictions = next(one for one in (choices(3, 9, 3), rank, texts, ratings(9, 3)) if name in _names(one))
    once, twice = measure(predictions, [name], 1), measure(type(predictions).join([predictions] * 2), [name], 1)  # type: ignore[list-item]
    assert not math.isnan(once[name])
    # chance shows more items to more rows, and the more rows there are, the less a place among the first is worth
    if name not in {"coverage@k", "rating_ndcg"}:
        assert once[name] == pytest.approx(twice[name], abs=EXACT)


def _names(predictions: Any) -> tuple[str, ...]:
    return TASKS[predictions.task].metric_names


@pytest.mark.parametrize(
    "predictions", [choices(3, 7, 4), GeneratePredictions(("a", "{}"), ("b", {"c": [1]})), ratings(7, 4)]
)
def test_what_evaluate_is_given_is_what_was_predicted(predictions: Any) -> None:
    task, options = task_of(predictions.task), {}
    if isinstance(predictions, ChoosePredictions):
        columns: Any = predictions.probabilities.tolist(), predictions.gold.tolist()
    elif isinstance(predictions, RatePredictions):
        columns, options = (predictions.scores.tolist(), predictions.gold.tolist()), {"low": predictions.low}
    else:
        columns = (
            predictions.outputs,
            [json.dumps(gold) if isinstance(gold, dict) else gold for gold in predictions.gold],
        )
    names = _names(predictions)
    found = measure(task.from_columns(*columns, **options), names)
    assert found == pytest.approx(measure(predictions, names), nan_ok=True)


def test_evaluate_is_told_the_least_score_where_no_row_has_it() -> None:
    scores, gold = [4.0, 2.0, 3.0], [3.0, 4.0, 5.0]
    of_rows, of_bounds = RatePredictions(np.array(scores), np.array(gold), 3, 5), [gain - 1 for gain in gold]
    told, alone = module("rating_ndcg"), module("rating_ndcg")
    assert told.compute(predictions=scores, references=gold, low=1)["rating_ndcg"] == pytest.approx(
        sklearn.ndcg_score([of_bounds], [scores])
    )
    assert alone.compute(predictions=scores, references=gold) == pytest.approx(measure(of_rows, ["rating_ndcg"]))
    zero = module("rating_ndcg").compute(predictions=scores, references=gold, low=0)["rating_ndcg"]
    assert zero == pytest.approx(sklearn.ndcg_score([gold], [scores]))
    assert task_of("rate").from_columns([], []).rows == 0
