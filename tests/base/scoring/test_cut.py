"""How rows are shared out among forwards."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from shopfit.base.scoring.scorer import cut

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
LENGTHS = st.lists(st.integers(1, 60), max_size=40)


def padded(lengths: list[int], batches: list[list[int]]) -> int:
    return sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)


@given(LENGTHS, st.integers(1, 400), st.sampled_from([CPU, GPU]))
def test_every_row_is_in_one_batch_that_the_budget_allows(
    lengths: list[int], budget: int, device: torch.device
) -> None:
    batches = list(cut(lengths, budget, device))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or padded(lengths, [batch]) <= budget for batch in batches)
    read = [lengths[row] for batch in batches for row in batch]
    assert read == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(100, 400))
def test_on_a_cpu_padding_is_never_more_than_elsewhere(lengths: list[int], budget: int) -> None:
    here, elsewhere = (list(cut(lengths, budget, device)) for device in (CPU, GPU))
    assert padded(lengths, here) <= padded(lengths, elsewhere)


def test_only_a_cpu_reads_short_and_long_texts_apart() -> None:
    lengths = [30, 5] * 20
    here, elsewhere = (list(cut(lengths, 2048, device)) for device in (CPU, GPU))
    assert sorted(map(len, here)) == [20, 20]
    assert padded(lengths, here) == sum(lengths)
    assert len(elsewhere) == 1


def test_texts_of_one_length_share_a_forward() -> None:
    assert len(list(cut([12] * 32, 2048, CPU))) == 1
