"""However many answers one request compares, and however long they are, no row of a forward grows with them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.engine.gate import gated

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, RankRequest, Tenant

QuickBundle = Callable[..., Bundle]
WIDEST = 1024 + 64  # tokens of a row: of its answers, and of the prompts here


@pytest.fixture
def ranks(quick_bundle: QuickBundle) -> Tenant:
    return replace(Tenant.of(quick_bundle("hot", task="rank")), catalog=None)


def test_long_candidates_are_read_in_many_short_rows(base: Base, ranks: Tenant) -> None:
    candidates = [f"{number} " + "q w " * (number + 20) for number in range(40)]
    with gated(base) as gate, Engine(base) as engine:
        [answer] = engine.rank([RankRequest(ranks, {"query": "x", "history": []}, candidates, 40)])
        assert sum(rows.numel() for rows in gate.rows) > 2 * WIDEST
        assert max(rows.shape[1] for rows in gate.rows) <= WIDEST
        alone = [engine.rank([RankRequest(ranks, {"query": "x", "history": []}, [one])])[0] for one in candidates]
    scores = {item.id: item.score for item in answer.items}
    expected = [one.items[0].score for one in alone]
    np.testing.assert_allclose([scores[one] for one in candidates], expected, atol=1e-4)


def test_a_thousand_labels_are_read_in_many_short_rows(base: Base, quick_bundle: QuickBundle) -> None:
    labels = tuple(f"label {number} of very many" for number in range(1000))
    tenant = replace(Tenant.of(quick_bundle("hot")), labels=labels)
    with gated(base) as gate, Engine(base) as engine:
        [answer] = engine.choose([ChooseRequest(tenant, {"text": "lovely"})])
        assert sum(rows.numel() for rows in gate.rows) > 2 * WIDEST
        assert max(rows.shape[1] for rows in gate.rows) <= WIDEST
        few = replace(tenant, labels=(labels[0], labels[-1]))
        [two] = engine.choose([ChooseRequest(few, {"text": "lovely"})])
    assert list(answer.probabilities) == list(labels)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    first, last = answer.probabilities[labels[0]], answer.probabilities[labels[-1]]
    assert first / (first + last) == pytest.approx(two.probabilities[labels[0]], abs=1e-4)
