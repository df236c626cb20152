import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.work import calls

from shopfit.evaluation import (
    ChoosePredictions,
    GeneratePredictions,
    Predictions,
    RankPredictions,
    bootstrap,
    measure,
    paired_difference,
)
from shopfit.recipe.tasks import TASKS
from shopfit.tasks import metric_of
from shopfit.tasks.rate_predictions import RatePredictions

TASK_METRICS = [(task, metric) for task, spec in TASKS.items() for metric in spec.metric_names]


def drawn(task: str, rows: int, seed: int, labels: int = 3, skill: float = 1.0) -> Predictions:
    """Predictions with ties, made up by a seed."""
    draw = np.random.default_rng(seed)
    if task == "choose":
        gold = draw.integers(0, labels, rows)
        scores = np.exp(np.round(draw.normal(size=(rows, labels)) + skill * np.eye(labels)[gold], 1))
        names = tuple(f"l{label}" for label in range(labels))
        return ChoosePredictions(names, scores / scores.sum(1, keepdims=True), gold)
    if task == "rank":
        pools = tuple(tuple(f"i{item}" for item in draw.permutation(60)[: draw.integers(5, 20)]) for _ in range(rows))
        relevant = tuple(frozenset(draw.choice(pool, 2, replace=False)) for pool in pools)
        scores_of = tuple(
            np.round(draw.normal(size=len(pool)) + [skill * (item in right) for item in pool])
            for pool, right in zip(pools, relevant, strict=True)
        )
        return RankPredictions(pools, scores_of, relevant, 60)
    if task == "rate":
        stars = draw.integers(1, 6, rows).astype(np.float64)
        return RatePredictions(np.round(skill * stars + draw.normal(size=rows)).clip(1, 5), stars, 1.0, 5.0)
    gold_of = tuple(
        {"a": str(draw.integers(3)), "b": [str(part) for part in draw.integers(0, 4, 2)]} for _ in range(rows)
    )
    outputs = tuple(
        str(right).replace("'", '"') if draw.random() < 0.5 else draw.choice(['{"a": "1", "c": 2}', "no json at all"])
        for right in gold_of
    )
    return GeneratePredictions(outputs, gold_of)


def rows_of(predictions: Predictions, chosen: Any) -> Predictions:
    """The same predictions, for the chosen rows only, repeats and all."""
    if isinstance(predictions, ChoosePredictions):
        return ChoosePredictions(predictions.labels, predictions.probabilities[chosen], predictions.gold[chosen])
    if isinstance(predictions, RankPredictions):
        picked = [
            tuple(column[row] for row in chosen)
            for column in (predictions.candidates, predictions.scores, predictions.relevant)
        ]
        return RankPredictions(*picked, predictions.catalog_size)
    if isinstance(predictions, RatePredictions):
        return RatePredictions(predictions.scores[chosen], predictions.gold[chosen], predictions.low, predictions.high)
    return GeneratePredictions(
        tuple(predictions.outputs[row] for row in chosen), tuple(predictions.gold[row] for row in chosen)
    )


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize(("task", "metric"), TASK_METRICS)
def test_weights_give_what_the_metric_gives_on_the_resampled_rows(task: str, metric: str, labels: int) -> None:
    predictions = drawn(task, 25, 1, labels)
    draw = np.random.default_rng(2)
    chosen = [np.arange(25), *(draw.integers(0, 25, 25) for _ in range(4)), np.repeat([3, 4], 5), np.array([7])]
    weights = np.array([np.bincount(rows, minlength=25) for rows in chosen], np.float64)
    found = metric_of(predictions.task, metric).of(predictions, 5)(weights)
    expected = [measure(rows_of(predictions, rows), [metric], 5)[metric] for rows in chosen]
    assert found == pytest.approx(np.array(expected), nan_ok=True)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1), st.sampled_from([None, "g1", "g2", "g3"])), min_size=1),
    st.sampled_from(TASKS["choose"].metric_names),
    st.integers(0, 100),
)
def test_the_value_lies_in_its_interval(rows: list[tuple[float, int, str | None]], metric: str, seed: int) -> None:
    probabilities = np.array([[1 - p, p] for p, _, _ in rows])
    predictions = ChoosePredictions(("no", "yes"), probabilities, np.array([gold for _, gold, _ in rows]))
    found = bootstrap(predictions, metric, groups=[group for _, _, group in rows], resamples=100, seed=seed)
    assert found.value == pytest.approx(measure(predictions, [metric])[metric], nan_ok=True)
    assert found.low <= found.value <= found.high or math.isnan(found.value)
    if metric != "log_loss":
        assert not found.low < 0
        assert not found.high > 1


def test_the_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    gold = np.zeros(400, np.int64)
    predictions = ChoosePredictions(("a", "b"), np.eye(2)[np.repeat([0, 1], [300, 100])], gold)
    found = bootstrap(predictions, "accuracy", resamples=4000)
    error = 1.96 * math.sqrt(0.75 * 0.25 / 400)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - error, abs=0.006)
    assert found.high == pytest.approx(0.75 + error, abs=0.006)


def test_rows_of_a_group_are_drawn_together_so_the_interval_is_wider() -> None:
    right = np.repeat(np.arange(20) < 10, 10)  # 20 shoppers, 10 equal rows each
    predictions = ChoosePredictions(("a", "b"), np.eye(2)[1 - right.astype(int)], np.zeros(200, np.int64))
    alone = bootstrap(predictions, "accuracy", resamples=2000)
    grouped = bootstrap(predictions, "accuracy", groups=[f"s{row // 10}" for row in range(200)], resamples=2000)
    few = 2.093 / 1.96 * math.sqrt(20 / 19)  # what 20 groups are less sure of than many: Student's t and its variance
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(few * math.sqrt(10), rel=0.15)


def test_the_interval_of_a_mean_of_few_rows_is_as_wide_as_students() -> None:
    draw, outside = np.random.default_rng(0), 0
    for _ in range(300):
        right = np.exp(-draw.uniform(0.2, 1.8, 8))  # its surprise is 1 in the mean
        predictions = ChoosePredictions(("a", "b"), np.stack([right, 1 - right], 1), np.zeros(8, np.int64))
        found = bootstrap(predictions, "log_loss")
        outside += not found.low <= 1 <= found.high
    assert outside / 300 < 0.08  # 5% would be right; plain percentiles miss more than one in ten


def test_rows_without_a_group_are_their_own() -> None:
    predictions = drawn("rank", 30, 3)
    assert bootstrap(predictions, "mrr", groups=[None] * 30) == bootstrap(predictions, "mrr")


def test_same_seed_same_interval_and_another_seed_another() -> None:
    predictions = drawn("rank", 30, 3)
    assert bootstrap(predictions, "mrr", seed=1) == bootstrap(predictions, "mrr", seed=1)
    assert bootstrap(predictions, "mrr", seed=1) != bootstrap(predictions, "mrr", seed=2)


@pytest.mark.parametrize(("task", "metric"), [("rank", "coverage@k"), ("choose", "ece")])
def test_what_drifts_under_resampling_is_put_back(task: str, metric: str) -> None:
    found = bootstrap(drawn(task, 40, 5), metric, k=3)
    assert found.low < found.value < found.high


def test_a_system_does_not_differ_from_itself() -> None:
    predictions = drawn("generate", 30, 4)
    found = paired_difference(predictions, predictions, "field_f1")
    assert (found.value, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(("task", "metric"), TASK_METRICS)
def test_a_difference_is_the_difference_of_the_values(task: str, metric: str) -> None:
    good = drawn(task, 60, 6, skill=3.0)
    bad = rows_of(good, np.arange(60))
    if isinstance(bad, ChoosePredictions):
        bad = ChoosePredictions(bad.labels, bad.probabilities[:, ::-1].copy(), bad.gold)
    elif isinstance(bad, RankPredictions):
        bad = RankPredictions(bad.candidates, tuple(-scores for scores in bad.scores), bad.relevant, 60)
    elif isinstance(bad, RatePredictions):
        bad = RatePredictions(6 - bad.scores, bad.gold, 1.0, 5.0)
    else:
        bad = GeneratePredictions(("?",) * 60, bad.gold)
    found = paired_difference(good, bad, metric, 5)
    expected = measure(good, [metric], 5)[metric] - measure(bad, [metric], 5)[metric]
    assert found.value == pytest.approx(expected)
    assert found.low <= found.value <= found.high


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    draw = np.random.default_rng(0)
    hard = draw.random(200) < 0.5
    gold = np.zeros(200, np.int64)
    first = ChoosePredictions(("a", "b"), np.eye(2)[hard.astype(int)], gold)
    second = ChoosePredictions(("a", "b"), np.eye(2)[(hard | (np.arange(200) % 20 == 0)).astype(int)], gold)
    paired = paired_difference(first, second, "accuracy")
    single = bootstrap(first, "accuracy")
    assert paired.high - paired.low < (single.high - single.low) / 2
    assert paired.low >= 0


def test_undefined_is_nan_all_over() -> None:
    one_class = ChoosePredictions(("a", "b"), np.full((5, 2), 0.5), np.zeros(5, np.int64))
    found = bootstrap(one_class, "auc")
    assert not found.defined
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_resamples_of_one_class_are_left_out_of_an_auc() -> None:
    rare = ChoosePredictions(("a", "b"), np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]), np.array([0, 0, 1]))
    found = bootstrap(rare, "auc")
    assert found.value == 0.5
    assert (found.low, found.high) == (0, 1)


def test_groups_must_fit_the_rows() -> None:
    with pytest.raises(ValueError, match="each of the 10 rows"):
        bootstrap(drawn("choose", 10, 0), "accuracy", groups=["a"] * 9)
    with pytest.raises(ValueError, match="got 10 and 9"):
        paired_difference(drawn("choose", 10, 0), drawn("choose", 9, 0), "accuracy")


def test_resamples_are_not_measured_one_by_one() -> None:
    for task, spec in TASKS.items():
        system = drawn(task, 200, 8, labels=8)
        for metric in spec.metric_names:
            few, many = (calls(lambda: bootstrap(system, metric, resamples=count)) for count in (100, 1000))  # noqa: B023
            assert many - few < 900, metric  # less than one call for each of the 900
