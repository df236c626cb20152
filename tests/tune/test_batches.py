from hypothesis import given
from hypothesis import strategies as st

from shopfit.tune.batches import LengthSortedBatches


@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=80), size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_example_once_in_full_batches(lengths: list[int], size: int, seed: int) -> None:
    sampler = LengthSortedBatches(len(lengths), size, lengths.__getitem__, seed)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1])


def test_batches_hold_rows_of_like_length_in_an_order_that_changes_by_epoch() -> None:
    lengths = [index * 7 % 64 for index in range(64)]
    sampler = LengthSortedBatches(64, 8, lengths.__getitem__, seed=1)
    orders = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        orders.append(list(sampler))
    assert all(max(lengths[row] for row in batch) - min(lengths[row] for row in batch) < 8 for batch in orders[0])
    assert orders[0] != orders[1]
