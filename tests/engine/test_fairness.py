"""Merchants take turns by tokens; within a merchant the order is that of arrival."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from shopfit.engine.fairness import FairQueue


@dataclass(frozen=True)
class Entry:
    merchant: str
    tokens: int
    number: int = 0


def everything(_: Entry) -> bool:
    return True


def test_a_hot_merchant_delays_another_by_one_round() -> None:
    queue: FairQueue[Entry] = FairQueue(quantum=64)
    for number in range(1000):
        queue.add(Entry("hot", 50, number))
    queue.add(Entry("small", 50))
    assert "small" in {entry.merchant for entry in queue.take(200, everything)}


def test_equal_tokens_not_equal_requests() -> None:
    queue: FairQueue[Entry] = FairQueue(quantum=64)
    for number in range(400):
        queue.add(Entry("long", 200, number))
        queue.add(Entry("short", 20, number))
    spent = {"long": 0, "short": 0}
    for _ in range(10):
        for entry in queue.take(400, everything):
            spent[entry.merchant] += entry.tokens
    assert abs(spent["long"] - spent["short"]) <= 264


def test_the_order_within_a_merchant_is_kept_and_the_budget_too() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for number in range(5):
        queue.add(Entry("a", 40, number))
    assert [entry.number for entry in queue.take(100, everything)] == [0, 1]
    assert [entry.number for entry in queue.take(1000, everything)] == [2, 3, 4]
    assert not len(queue)


def test_one_entry_larger_than_the_budget_goes_alone() -> None:
    queue: FairQueue[Entry] = FairQueue()
    queue.add(Entry("a", 5000))
    queue.add(Entry("a", 10))
    assert [entry.tokens for entry in queue.take(100, everything)] == [5000]
    assert [entry.tokens for entry in queue.take(100, everything)] == [10]


def test_what_does_not_fit_waits_and_lets_others_pass() -> None:
    queue: FairQueue[Entry] = FairQueue()
    queue.add(Entry("a", 10, 1))
    queue.add(Entry("b", 10, 2))
    assert [entry.number for entry in queue.take(100, lambda entry: entry.merchant != "a")] == [2]
    assert [entry.number for entry in queue.take(100, everything)] == [1]


def test_dropped_entries_are_gone() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for number in range(4):
        queue.add(Entry("a", 10, number))
    queue.drop(lambda entry: entry.number % 2 == 0)
    assert [entry.number for entry in queue] == [1, 3]
    queue.drop(everything)
    assert queue.take(100, everything) == []


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 300)), max_size=60),
    st.integers(1, 500),
    st.integers(1, 100),
)
def test_everything_comes_out_once(rows: list[tuple[str, int]], budget: int, quantum: int) -> None:
    queue: FairQueue[Entry] = FairQueue(quantum=quantum)
    entries = [Entry(merchant, tokens, number) for number, (merchant, tokens) in enumerate(rows)]
    for entry in entries:
        queue.add(entry)
    out = []
    while len(queue):
        part = queue.take(budget, everything)
        assert part
        assert len(part) == 1 or sum(entry.tokens for entry in part) <= budget
        out += part
    assert sorted(entry.number for entry in out) == list(range(len(rows)))
    for merchant in "abcd":
        mine = [entry.number for entry in out if entry.merchant == merchant]
        assert mine == sorted(mine)
