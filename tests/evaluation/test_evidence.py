"""What rows prove: not by an interval that is narrow because they are few, and never of labels that none has."""

import math

import numpy as np
import pytest

from shopfit.evaluation.evidence import Evidence, mean_of, weigh
from shopfit.evaluation.intervals import jackknife
from shopfit.tasks import ChoosePredictions, GeneratePredictions, RankPredictions

POOL = ("a", "b", "c", "d")


def choices(right: list[bool], gold: list[int] | None = None, sure: float = 0.8) -> ChoosePredictions:
    """Two labels; which rows are answered right."""
    truth = np.array(gold if gold is not None else [row % 2 for row in range(len(right))], np.int64)
    chosen = np.where(np.array(right, bool), truth, 1 - truth)
    return ChoosePredictions(("no", "yes"), np.where(np.eye(2)[chosen] == 1, sure, 1 - sure), truth)


def rankings(places: list[int]) -> RankPredictions:
    """The right item's place in each row."""
    ordered = tuple(
        np.array([-float(place), *(-float(other) for other in range(4) if other != place)]) for place in places
    )
    return RankPredictions((POOL,) * len(places), ordered, (frozenset({"a"}),) * len(places), 4)


def test_rows_that_all_agree_prove_nothing_while_they_are_few() -> None:
    """Every resample is the same: the interval has no width, and says nothing."""
    for rows in range(1, 6):
        found = weigh(choices([True] * rows), choices([False] * rows), "accuracy")
        assert (found.gain.low, found.gain.high) == (1, 1)
        assert not found.proves(0.0)
        assert found.rows_to_decide(0.0) == 6
    assert weigh(choices([True] * 6), choices([False] * 6), "accuracy").proves(0.0)


def test_the_case_of_four_rows() -> None:
    found = weigh(choices([True, True, True, True]), choices([True, False, False, True]), "macro_f1")
    assert found.gain.value == 0.5
    assert found.gain.low <= 0
    assert not found.proves(0.0)
    assert found.rows_to_decide(0.0) is not None
    assert found.rows_to_decide(0.0) >= 20  # type: ignore[operator]


def test_few_of_many_rows_tell_nothing() -> None:
    def against(wins: int, rows: int = 200) -> Evidence:
        return weigh(choices([True] * rows), choices([row >= wins for row in range(rows)]), "accuracy")

    assert against(5).gain.low > 0
    assert not against(5).proves(0.0)
    assert against(8).proves(0.0)
    assert against(8).rows_to_decide(0.0) <= 400  # type: ignore[operator]


def test_equal_systems_and_no_rows() -> None:
    same = choices([True, False] * 10)
    found = weigh(same, same, "accuracy")
    assert (found.telling, found.proves(0.0), found.rows_to_decide(0.0)) == (0, False, None)
    nothing = weigh(choices([]), choices([]), "accuracy")
    assert not nothing.proves(0.0)
    assert nothing.rows_to_decide(0.0) is None


def test_lower_is_better_where_it_is() -> None:
    right = [True] * 30
    better, worse = choices(right, sure=0.95), choices(right, sure=0.6)
    found = weigh(better, worse, "log_loss")
    assert found.gain.value == pytest.approx(math.log(0.95 / 0.6))
    assert found.proves(0.0)
    assert found.proves(0.4)
    assert not found.proves(0.5)
    assert not weigh(worse, better, "log_loss").proves(0.0)


def test_rows_of_one_shopper_are_one() -> None:
    better, worse = choices([True] * 40), choices([row % 2 == 0 for row in range(40)])
    assert weigh(better, worse, "accuracy").proves(0.0)
    shoppers = [f"s{row // 10}" for row in range(40)]
    found = weigh(better, worse, "accuracy", groups=shoppers)
    assert (found.rows, found.groups, found.telling) == (40, 4, 4)
    assert not found.proves(0.0)
    assert found.rows_to_decide(0.0) == 60  # six shoppers of ten rows


def test_a_label_that_no_row_has_may_take_everything_away() -> None:
    """An adapter that always says yes has a perfect macro-F1 on rows that are all yes."""
    gold = [1] * 30
    always, often = choices([True] * 30, gold), choices([row % 3 > 0 for row in range(30)], gold)
    found = weigh(always, often, "macro_f1")
    assert found.gain.low > 0
    assert found.unseen == ("no",)
    assert not found.proves(0.0)
    assert weigh(always, often, "accuracy").proves(0.0)
    assert math.isnan(weigh(always, often, "log_loss").low)
    assert weigh(always, often, "macro_f1", labels=["yes"]).proves(0.0)  # no example of the merchant's says no


def test_an_auc_that_rests_on_one_row_proves_nothing() -> None:
    gold = np.array([1] + [0] * 39)
    knows = np.where(gold == 1, 0.9, 0.1)
    blind = np.linspace(0, 1, 40)
    systems = [ChoosePredictions(("no", "yes"), np.stack([1 - p, p], 1), gold) for p in (knows, blind)]
    found = weigh(*systems, "auc")
    assert found.gain.low > 0
    assert math.isnan(found.spread)
    assert not found.proves(0.0)


@pytest.mark.parametrize("metric", ["ndcg@k", "mrr", "hr@k"])
def test_rankings(metric: str) -> None:
    found = weigh(rankings([0] * 24), rankings([row % 3 + 1 for row in range(24)]), metric, k=1)
    assert found.proves(0.0)
    assert not weigh(rankings([0] * 4), rankings([1] * 4), metric, k=1).proves(0.0)


def test_written_answers() -> None:
    gold = tuple({"a": str(row)} for row in range(24))
    right = GeneratePredictions(tuple(f'{{"a": "{row}"}}' for row in range(24)), gold)
    wrong = GeneratePredictions(('{"a": "x"}',) * 24, gold)
    for metric in ("field_f1", "exact_match", "token_f1"):
        assert weigh(right, wrong, metric).proves(0.0), metric
    assert not weigh(right, wrong, "valid_json").proves(0.0)


def test_each_row_of_a_mean_says_its_own_difference() -> None:
    first, second = choices([True, True, False, True]), choices([True, False, False, False])
    assert jackknife(first, second, "accuracy") == pytest.approx(np.array([0.0, 1, 0, 1]))
    many = choices([row % 4 > 0 for row in range(3000)])
    blocks = jackknife(many, choices([False] * 3000), "accuracy")
    assert len(blocks) == 1000
    assert blocks.mean() == pytest.approx(0.75)


def test_equal_systems_are_proven_better_as_seldom_as_the_interval_says() -> None:
    draw = np.random.default_rng(1)
    for metric, rows in (("accuracy", 8), ("accuracy", 40), ("macro_f1", 24), ("macro_f1", 60)):
        proven = 0
        for _ in range(200):
            gold = list((draw.random(rows) < 0.3).astype(int))
            one, other = (choices(list(draw.random(rows) < 0.7), gold) for _ in range(2))
            proven += weigh(one, other, metric, resamples=200).proves(0.0)
        assert proven / 200 <= 0.06, (metric, rows)


def test_several_merchants_weigh_the_same() -> None:
    one = weigh(choices([True] * 12), choices([row % 2 == 0 for row in range(12)]), "accuracy")
    other = weigh(choices([True] * 40), choices([row % 4 > 0 for row in range(40)]), "accuracy")
    both = mean_of([one, other])
    assert both.gain.value == pytest.approx((0.5 + 0.25) / 2)
    assert (both.rows, both.groups, both.telling) == (52, 52, 16)
    assert both.gain.low < both.gain.value < both.gain.high
    assert both.proves(0.0)
    assert not mean_of([weigh(choices([True] * 2), choices([False] * 2), "accuracy")] * 2).proves(0.0)
