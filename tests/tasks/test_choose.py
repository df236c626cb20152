import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfit.evaluation import ChoosePredictions, measure

NAMES = ["accuracy", "macro_f1", "balanced_accuracy", "auc", "log_loss", "ece"]


def predictions(probabilities: list[list[float]], gold: list[int], labels: str = "") -> ChoosePredictions:
    table = np.array(probabilities, np.float64)
    return ChoosePredictions(tuple(labels or "abcdefgh"[: table.shape[1]]), table, np.array(gold, np.int64))


def test_two_labels_by_hand() -> None:
    found = measure(predictions([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.8, 0.2]], [0, 0, 1, 1]), NAMES)
    assert found["accuracy"] == 0.5
    assert found["macro_f1"] == pytest.approx(0.5)
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    assert found["auc"] == pytest.approx(3 / 4)  # of the four pairs only (0.6, 0.2) is the wrong way round
    assert found["log_loss"] == pytest.approx(-np.mean(np.log([0.9, 0.4, 0.7, 0.2])))
    # every row is alone in its bin: |1 - .9|, |0 - .6|, |1 - .7|, |0 - .8|
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.3 + 0.8) / 4)


def test_macro_f1_counts_each_label_once_and_leaves_out_labels_that_never_occur() -> None:
    found = measure(
        predictions([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.1, 0.9, 0]], [0, 0, 1, 1]), ["macro_f1"]
    )
    assert found["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_auc_of_several_labels_is_the_mean_over_labels_with_both_sides() -> None:
    rows = [[0.6, 0.3, 0.1, 0.0], [0.2, 0.5, 0.3, 0.0], [0.1, 0.6, 0.3, 0.0]]
    # a: 1 of 1 pairs twice; b: 0.5 and 0.6 against 0.3; d is right nowhere
    assert measure(predictions(rows, [0, 1, 2]), ["auc"])["auc"] == pytest.approx((1 + 0.5 + 0.75) / 3)


def test_auc_is_the_same_whichever_of_two_labels_comes_first() -> None:
    rows, gold = [[0.9, 0.1], [0.4, 0.6], [0.3, 0.7], [0.35, 0.65]], [0, 0, 1, 1]
    swapped = predictions([row[::-1] for row in rows], [1 - label for label in gold], "ba")
    assert measure(predictions(rows, gold), ["auc"]) == measure(swapped, ["auc"]) == {"auc": 1.0}


def test_one_class_has_no_auc_but_everything_else() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = measure(predictions([[0.9, 0.1], [0.4, 0.6]], [0, 0]), NAMES)
    assert math.isnan(found["auc"])
    assert not any(math.isnan(found[name]) for name in NAMES if name != "auc")


def test_a_certain_wrong_answer_costs_much_but_not_without_end() -> None:
    loss = measure(predictions([[1.0, 0.0]], [1]), ["log_loss"])["log_loss"]
    assert 30 < loss < 40


def test_rows_of_one_bin_cancel_out_in_the_calibration_error() -> None:
    found = measure(predictions([[0.75, 0.25]] * 4, [0, 0, 0, 1]), ["ece"])
    assert found["ece"] == pytest.approx(0)


def test_a_probability_on_the_edge_belongs_to_the_bin_below() -> None:
    # 0.6 = 9/15 closes the ninth bin, 0.61 is in the tenth: apart, the gaps do not cancel
    found = measure(predictions([[0.6, 0.4], [0.61, 0.39]], [0, 1]), ["ece"])
    assert found["ece"] == pytest.approx((0.4 + 0.61) / 2)


def test_without_rows_nothing_is_defined() -> None:
    empty = ChoosePredictions(("a", "b"), np.zeros((0, 2)), np.zeros(0, np.int64))
    assert all(math.isnan(value) for value in measure(empty, NAMES).values())


@settings(max_examples=25)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=20))
def test_perfect_and_worst_choices(gold: list[int]) -> None:
    right = np.eye(3)[gold]
    best = measure(predictions(right.tolist(), gold), ["accuracy", "macro_f1", "balanced_accuracy", "ece"])
    assert best == {"accuracy": 1, "macro_f1": 1, "balanced_accuracy": 1, "ece": 0}
    wrong = np.eye(3)[[(label + 1) % 3 for label in gold]]
    worst = measure(predictions(wrong.tolist(), gold), ["accuracy", "macro_f1", "balanced_accuracy", "ece"])
    assert worst == {"accuracy": 0, "macro_f1": 0, "balanced_accuracy": 0, "ece": 1}
