"""Temperatures and thresholds are learned from held-out answers and do what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shopfit.evaluation.calibration import (
    at_temperature,
    calibrate,
    calibration_facts,
    cross_fitted,
    fit_temperature,
    fit_threshold,
    temperature_helps,
)
from shopfit.evaluation.metrics import measure
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions


def drawn(rows: int, temperature: float, seed: int = 0) -> ChoosePredictions:
    """Answers that are too sure (below 1) or not sure enough (above 1) by a known temperature."""
    draw = np.random.default_rng(seed)
    honest = draw.dirichlet([0.6, 0.6, 0.6], rows)
    gold = np.array([draw.choice(3, p=row) for row in honest])
    return ChoosePredictions(("a", "b", "c"), at_temperature(honest, temperature), gold)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_that_was_applied_is_found_and_undone(temperature: float) -> None:
    found = fit_temperature(drawn(4000, temperature))
    assert found == pytest.approx(1 / temperature, rel=0.1)
    test = drawn(4000, temperature, seed=1)
    served = ChoosePredictions(test.labels, at_temperature(test.probabilities, found), test.gold)
    facts = calibration_facts(served, found, 1.0, 0.0)
    assert facts["ece_after"] < 0.03
    if temperature != 1:
        assert facts["ece_before"] > 2 * facts["ece_after"]


def test_few_answers_move_it_little_and_none_not_at_all() -> None:
    assert fit_temperature(drawn(0, 1.0)) == 1.0
    assert abs(np.log(fit_temperature(drawn(2, 0.2)))) < abs(np.log(fit_temperature(drawn(500, 0.2))))


@given(st.floats(0.2, 8), st.floats(0.2, 8))
def test_temperatures_multiply_and_keep_the_order(one: float, two: float) -> None:
    honest = np.random.default_rng(3).dirichlet([2, 2, 2], 20)
    twice = at_temperature(at_temperature(honest, one), two)
    assert np.allclose(twice, at_temperature(honest, one * two), atol=1e-6)
    assert np.allclose(twice.sum(1), 1)
    assert (twice.argmax(1) == honest.argmax(1)).all()


def test_the_threshold_reaches_the_wanted_precision_on_other_rows() -> None:
    held_out, test = drawn(4000, 1.0), drawn(4000, 1.0, seed=1)
    everything = calibration_facts(test, 1.0, 1.0, 1e-9)["precision"]
    for wanted in (0.7, 0.8, 0.9):
        facts = calibration_facts(test, 1.0, 1.0, fit_threshold(held_out, wanted))
        assert wanted > everything
        assert facts["precision"] == pytest.approx(wanted, abs=0.03)
        assert 0 < facts["sure"] < 1


def test_where_nothing_is_sure_enough_nothing_is_sure() -> None:
    wrong = ChoosePredictions(("a", "b"), np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([1, 1]))
    assert fit_threshold(wrong, 0.9) == 1.0
    assert calibration_facts(wrong, 1.0, 1.0, 1.0)["sure"] == 0


def recipe(precision: float | None = None) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "task": "choose",
            "data": {"file": "x"},
            "prompt": {"template": "{text}"},
            "evaluate": {"metric": "accuracy"},
            "serve": {"precision": precision},
        }
    )


def test_one_that_does_not_help_held_out_answers_is_not_applied() -> None:
    trained = recipe().tune.temperature
    for seed in range(20):
        honest = drawn(40, 1.0, seed)
        assert calibrate(recipe(), [honest]) == {"temperature": trained}, seed
        assert fit_temperature(honest) != 1.0
    for temperature in (0.3, 3.0):
        helped = calibrate(recipe(), [drawn(300, temperature)])["temperature"]
        assert helped == pytest.approx(trained / temperature, rel=0.25)


def test_a_handful_of_answers_is_no_evidence() -> None:
    for seed in range(20):
        few = drawn(4, 0.7, seed)
        assert not temperature_helps(few) or measure(few, ["log_loss"])["log_loss"] > 2
    assert not temperature_helps(drawn(0, 1.0))
    assert calibrate(recipe(0.9), [drawn(0, 1.0)]) == {}
    assert calibrate(recipe(0.9), []) == {}


def test_no_answer_is_judged_at_a_temperature_that_it_fitted() -> None:
    answers = drawn(50, 0.5)
    fitted = cross_fitted(answers)
    other = ChoosePredictions(answers.labels, answers.probabilities, answers.gold.copy())
    other.gold[0] = (other.gold[0] + 1) % 3
    changed = cross_fitted(other)
    same = np.isclose(fitted.probabilities, changed.probabilities).all(1)
    assert same[0]  # its own right answer told it nothing
    assert same.sum() == 10  # nor those that were left out with it


def test_the_threshold_is_for_the_answers_that_are_served() -> None:
    alone, blended = drawn(200, 1.0), drawn(200, 1.0, seed=1)
    found = calibrate(recipe(0.8), [alone], [blended])["threshold"]
    assert found == fit_threshold(blended, 0.8) != fit_threshold(alone, 0.8)


def test_a_threshold_is_not_drawn_where_a_few_were_right_by_luck() -> None:
    right = ChoosePredictions(("a", "b"), np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0]))
    assert fit_threshold(right, 0.9) == 1.0
    many = ChoosePredictions(("a", "b"), np.tile([0.9, 0.1], (30, 1)), np.zeros(30, np.int64))
    assert fit_threshold(many, 0.9) == pytest.approx(0.9)
