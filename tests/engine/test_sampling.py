"""Tokens are drawn from the nucleus, by the row's own seed."""

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from shopfit.engine.sampling import Sampling, penalize, pick

LOGITS = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()


def test_zero_temperature_takes_the_most_probable() -> None:
    assert pick(torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), [Sampling(), Sampling()]) == [1, 0]


def test_draws_follow_the_probabilities() -> None:
    rows = [Sampling(1.0, seed=seed) for seed in range(4000)]
    counts = Counter(pick(LOGITS.expand(len(rows), -1), rows))
    for token, share in enumerate((0.5, 0.3, 0.15, 0.05)):
        assert abs(counts[token] / len(rows) - share) < 0.03


def test_a_high_temperature_flattens_and_a_low_one_sharpens() -> None:
    def share(temperature: float) -> float:
        rows = [Sampling(temperature, seed=seed) for seed in range(2000)]
        return pick(LOGITS.expand(len(rows), -1), rows).count(0) / len(rows)

    assert share(0.3) > 0.75 > share(1.0) > share(5.0)


@given(st.floats(0.01, 1.0), st.integers(0, 10**6))
def test_nothing_outside_of_the_nucleus_is_drawn(top_p: float, seed: int) -> None:
    token = pick(LOGITS[None], [Sampling(1.0, top_p, seed)])[0]
    assert token in range(1 + sum(before < top_p for before in (0.5, 0.8, 0.95)))


def test_a_row_draws_the_same_whatever_its_neighbours() -> None:
    def drawn(neighbours: int) -> list[int]:
        row, others = Sampling(1.0, seed=5), [Sampling(1.0, seed=9) for _ in range(neighbours)]
        return [pick(LOGITS.expand(neighbours + 1, -1), [*others, row])[-1] for _ in range(20)]

    assert drawn(0) == drawn(3)
    assert len(set(drawn(0))) > 1


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = LOGITS.clone()
    logits[0] = -torch.inf
    rows = [Sampling(2.0, seed=seed) for seed in range(300)]
    assert 0 not in pick(logits.expand(len(rows), -1), rows)


def test_penalties_lower_what_was_written() -> None:
    rows = [
        Sampling(frequency_penalty=0.5),
        Sampling(presence_penalty=-1.0),
        Sampling(frequency_penalty=2.0, presence_penalty=1.0),
        Sampling(),
        Sampling(frequency_penalty=1.0),
    ]
    logits = torch.zeros(5, 4)
    penalize(logits, rows, [[1, 3, 1], [2, 2], [0], [0, 1], []])
    assert logits.tolist() == [[0, -1.0, 0, -0.5], [0, 0, 1.0, 0], [-3.0, 0, 0, 0], [0] * 4, [0] * 4]
