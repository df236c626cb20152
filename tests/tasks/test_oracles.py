"""Every metric against a definition of somebody else's, on rows with ties, as scikit-learn has it where it has it."""

import json
import math
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sklearn

from shopfit.evaluation import measure
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import ChoosePredictions, GeneratePredictions, RankPredictions, task_of

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


@pytest.mark.parametrize("name", METRICS)
def test_each_row_there_once_is_the_plain_value_and_twice_changes_nothing(name: str) -> None:
    rank = RankPredictions(
        (("a", "b"), ("b", "c")), (np.array([1.0, 1.0]), np.array([2.0, 1.0])), (frozenset("a"),) * 2, 5
    )
    texts = GeneratePredictions(('{"a": 1}', '{"a": 2, "b": 1}'), ({"a": 1}, {"a": 1}))
    predictions = next(one for one in (choices(3, 9, 3), rank, texts) if name in _names(one))
    once, twice = measure(predictions, [name], 1), measure(type(predictions).join([predictions] * 2), [name], 1)  # type: ignore[list-item]
    assert not math.isnan(once[name])
    if name != "coverage@k":  # chance shows more items to more rows
        assert once[name] == pytest.approx(twice[name], abs=EXACT)


def _names(predictions: Any) -> tuple[str, ...]:
    from shopfit.recipe.tasks import TASKS

    return TASKS[predictions.task].metric_names


@pytest.mark.parametrize("predictions", [choices(3, 7, 4), GeneratePredictions(("a", "{}"), ("b", {"c": [1]}))])
def test_what_evaluate_is_given_is_what_was_predicted(predictions: Any) -> None:
    task = task_of(predictions.task)
    if isinstance(predictions, ChoosePredictions):
        columns: Any = predictions.probabilities.tolist(), predictions.gold.tolist()
    else:
        columns = (
            predictions.outputs,
            [json.dumps(gold) if isinstance(gold, dict) else gold for gold in predictions.gold],
        )
    names = _names(predictions)
    assert measure(task.from_columns(*columns), names) == pytest.approx(measure(predictions, names), nan_ok=True)
