import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from shopfit.evaluation import RankPredictions, measure
from shopfit.tasks.ranking_metrics import Ranking

NAMES = ["ndcg@k", "hr@k", "mrr", "coverage@k"]


def predictions(*rows: tuple[str, list[float], str], size: int = 10) -> RankPredictions:
    """Rows of (one letter an item, scores, relevant letters)."""
    return RankPredictions(
        tuple(tuple(items) for items, _, _ in rows),
        tuple(np.array(scores, np.float64) for _, scores, _ in rows),
        tuple(frozenset(relevant) for _, _, relevant in rows),
        size,
    )


def test_two_rows_by_hand() -> None:
    found = measure(predictions(("abcd", [4, 3, 2, 1], "b"), ("abcd", [1, 2, 3, 4], "da")), NAMES, k=2)
    second = (1 / math.log2(2)) / (1 / math.log2(2) + 1 / math.log2(3))
    assert found["ndcg@k"] == pytest.approx((1 / math.log2(3) + second) / 2)
    assert found["hr@k"] == 1
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)
    assert found["coverage@k"] == pytest.approx(4 / 10)  # a, b, d, c


def test_a_constant_score_is_worth_what_chance_is() -> None:
    found = measure(predictions(("abcd", [0, 0, 0, 0], "a")), NAMES, k=2)
    assert found["hr@k"] == pytest.approx(2 / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert found["ndcg@k"] == pytest.approx((1 + 1 / math.log2(3)) / 4)
    assert found["coverage@k"] == pytest.approx(4 * 0.5 / 10)


def test_a_relevant_item_that_is_no_candidate_is_never_found() -> None:
    found = measure(predictions(("ab", [2, 1], "az"), ("ab", [2, 1], "z")), NAMES, k=2)
    assert found["hr@k"] == 0.5
    assert found["mrr"] == 0.5
    assert found["ndcg@k"] == pytest.approx(0.5 / (1 + 1 / math.log2(3)))


def test_a_score_that_is_not_a_number_is_worst() -> None:
    assert measure(predictions(("ab", [math.nan, -100], "a")), ["mrr"]) == {"mrr": 0.5}


def test_without_candidates_or_rows() -> None:
    assert measure(predictions(("", [], "a")), NAMES) == {"ndcg@k": 0, "hr@k": 0, "mrr": 0, "coverage@k": 0}
    assert all(math.isnan(value) for value in measure(predictions(), NAMES).values())


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 7))
def test_ties_are_worth_the_mean_over_every_order(rows: list[tuple[int, bool]], k: int) -> None:
    items = [str(place) for place in range(len(rows))]
    scores = np.array([score for score, _ in rows], np.float64)
    relevant = frozenset(item for item, (_, right) in zip(items, rows, strict=True) if right)
    found = Ranking.of(items, scores, relevant)
    orders = [order for order in itertools.permutations(range(len(rows))) if (np.diff(scores[list(order)]) <= 0).all()]
    hits = [[items[place] in relevant for place in order] for order in orders]
    assert found.hit_rate(k) == pytest.approx(np.mean([any(row[:k]) for row in hits]))
    firsts = [1 / (row.index(True) + 1) if any(row) else 0.0 for row in hits]
    assert found.reciprocal_rank() == pytest.approx(np.mean(firsts))
    shown = np.mean([[order.index(place) < k for place in range(len(rows))] for order in orders], 0)
    assert found.in_top(k) == pytest.approx(shown)
    if relevant and len(rows) > 1:
        assert found.ndcg(k) == pytest.approx(ndcg_score([[float(right) for _, right in rows]], [scores], k=k))


@given(st.integers(1, 30), st.data())
def test_perfect_and_worst_rankings(size: int, data: st.DataObject) -> None:
    items = [str(place) for place in range(size)]
    relevant = data.draw(st.sets(st.sampled_from(items), min_size=1))
    right = np.array([item in relevant for item in items], np.float64)
    k = data.draw(st.integers(1, size))
    best, worst = Ranking.of(items, right, relevant), Ranking.of(items, -right, relevant)
    assert best.ndcg(k) == pytest.approx(1)
    assert best.hit_rate(k) == best.reciprocal_rank() == 1
    assert worst.reciprocal_rank() == pytest.approx(1 / (size - len(relevant) + 1)) or size == len(relevant)
    if k <= size - len(relevant):
        assert worst.ndcg(k) == worst.hit_rate(k) == 0


@given(st.permutations(list("abcdef")))
def test_the_order_of_candidates_says_nothing(order: list[str]) -> None:
    score = {"a": 1.0, "b": 1.0, "c": 0.0, "d": 2.0, "e": 1.0, "f": 0.0}
    found = Ranking.of(order, np.array([score[item] for item in order]), {"b", "c"})
    assert found.ndcg(3) == pytest.approx(Ranking.of("abcdef", np.array(list(score.values())), {"b", "c"}).ndcg(3))
    assert found.hit_rate(3) == pytest.approx(2 / 3)
    assert found.reciprocal_rank() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)
