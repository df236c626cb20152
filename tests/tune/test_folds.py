"""Folds: what a merchant's examples are held against."""

from tests.tune.reviews import LABELS, RECIPE, material, reviews

from shopfit.base.load import Base
from shopfit.tune.folds import folds


def test_folds_hold_every_example_out_once_and_never_train_on_it(base: Base) -> None:
    rows = reviews(13)
    parts = folds(RECIPE, material(base, rows[:9], rows[9:]))
    assert sorted(row.id for part in parts for row in part.valid) == sorted(row.id for row in rows)
    for part in parts:
        assert not {row.id for row in part.train} & {row.id for row in part.valid}
        assert {row.label for row in part.train} == set(LABELS)
    many = material(base, reviews(50), reviews(10, seed=2))
    assert folds(RECIPE, many) == [many]
