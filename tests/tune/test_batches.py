from hypothesis import given
from hypothesis import strategies as st

from shopfit.tune.batches import LengthSortedBatches, shares


@given(lengths=st.lists(st.integers(1, 99), min_size=1, max_size=80), size=st.integers(1, 9), seed=st.integers(0, 5))
def test_every_example_once_in_full_batches(lengths: list[int], size: int, seed: int) -> None:
    sampler = LengthSortedBatches(len(lengths), size, lengths.__getitem__, seed)
    batches = list(sampler)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    assert all(len(batch) == size for batch in batches[:-1])


@given(
    texts=st.lists(st.integers(0, 20), min_size=1, max_size=40),
    forwards=st.integers(1, 6),
    processes=st.integers(1, 9),
)
def test_processes_share_every_row_of_a_step_once(texts: list[int], forwards: int, processes: int) -> None:
    each = [shares(texts, forwards, processes, process) for process in range(processes)]
    parts = [part for mine in each for part in mine]
    assert sorted(row for part in parts for row in part) == list(range(len(texts)))
    assert all(parts)
    assert each[0]  # which counts what counts once a step
    assert max(map(len, each)) <= forwards
    assert all(len({at for at, part in enumerate(parts) for row in part if texts[row] == text}) == 1 for text in texts)
    distinct = [len({texts[row] for part in mine for row in part}) for mine in each]
    assert max(distinct) - min(distinct) <= 1


def test_batches_hold_rows_of_like_length_in_an_order_that_changes_by_epoch() -> None:
    lengths = [index * 7 % 64 for index in range(64)]
    sampler = LengthSortedBatches(64, 8, lengths.__getitem__, seed=1)
    orders = []
    for epoch in (1, 2):
        sampler.epoch = epoch
        orders.append(list(sampler))
    assert all(max(lengths[row] for row in batch) - min(lengths[row] for row in batch) < 8 for batch in orders[0])
    assert orders[0] != orders[1]
