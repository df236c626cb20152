"""Folds: what a merchant's examples are held against."""

import math
from dataclasses import replace

import pytest
import torch
from tests.tune.reviews import LABELS, RECIPE, material, reviews

from shopfit.base.load import Base
from shopfit.tune.folds import calibrated_loss, folds, in_batches, loss_at


def test_folds_hold_every_example_out_once_and_never_train_on_it(base: Base) -> None:
    rows = reviews(13)
    parts = folds(RECIPE, material(base, rows[:9], rows[9:]))
    assert sorted(row.id for part in parts for row in part.valid) == sorted(row.id for row in rows)
    for part in parts:
        assert not {row.id for row in part.train} & {row.id for row in part.valid}
        assert {row.label for row in part.train} == set(LABELS)
    many = material(base, reviews(90), reviews(10, seed=2))
    assert folds(RECIPE, many) == [many]


def test_folds_keep_what_one_shopper_did_on_one_side(base: Base) -> None:
    rows = [replace(row, group=f"shopper {number // 3}") for number, row in enumerate(reviews(12))]
    parts = folds(RECIPE, material(base, rows))
    assert sorted(row.id for part in parts for row in part.valid) == sorted(row.id for row in rows)
    for part in parts:
        assert not {row.group for row in part.train} & {row.group for row in part.valid}
    two = [replace(row, group=f"shopper {number % 2}") for number, row in enumerate(reviews(12))]
    assert folds(RECIPE, material(base, two)) == []  # the third part would be empty


def test_a_calibrated_loss_prefers_what_tells_right_from_wrong(base: Base) -> None:
    batches = in_batches(RECIPE, reviews(16), material(base, reviews(16)))

    def loss_of(separation: float, *, turned: int = 0) -> tuple[float, float]:
        """Answers that are right by so much, but for a few that are as wrong."""
        answers = []
        for batch in batches:
            right = batch.gold.clone()
            right[: 2 * turned] = ~right[: 2 * turned]
            answers.append((torch.where(right, separation, 0.0) * batch.tree.lengths, batch))
        return loss_at(answers, RECIPE, RECIPE.tune.temperature), calibrated_loss(answers, RECIPE)

    (sure, sure_calibrated), (none, none_calibrated) = loss_of(2.0, turned=2), loss_of(0.0)
    assert sure > none == pytest.approx(math.log(2), abs=1e-5)  # too sure of two wrong answers
    assert sure_calibrated < 0.6 < none_calibrated
    surer = loss_of(8.0, turned=2)[1]
    assert surer == pytest.approx(sure_calibrated, rel=0.1)  # how sure does not matter
