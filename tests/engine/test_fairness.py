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
    queue: FairQueue[Entry] = FairQueue()
    for number in range(1000):
        queue.add(Entry("hot", 50, number))
    queue.add(Entry("small", 50))
    assert "small" in {entry.merchant for entry in queue.take(200, everything)}


def test_equal_tokens_not_equal_requests() -> None:
    queue: FairQueue[Entry] = FairQueue()
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
    st.integers(1, 5),
)
def test_everything_comes_out_once(rows: list[tuple[str, int]], budget: int, every: int) -> None:
    queue: FairQueue[Entry] = FairQueue()
    entries = [Entry(merchant, tokens, number) for number, (merchant, tokens) in enumerate(rows)]
    for entry in entries:
        queue.add(entry)
    out = []
    while len(queue):
        part = queue.take(budget, everything, lambda offered: offered[::every])
        assert part
        assert len(part) == 1 or sum(entry.tokens for entry in part) <= budget
        out += part
    assert sorted(entry.number for entry in out) == list(range(len(rows)))
    for merchant in "abcd" if every == 1 else "":
        mine = [entry.number for entry in out if entry.merchant == merchant]
        assert mine == sorted(mine)


def test_whoever_comes_anew_is_next_however_little_of_the_others_is_taken() -> None:
    """What is offered and not chosen is not paid for, and comes first again; it keeps nobody from the next turn."""
    queue: FairQueue[Entry] = FairQueue()
    for number in range(1000):
        queue.add(Entry("hot", 50, number))
    for _ in range(20):
        assert len(queue.take(4000, everything, lambda offered: offered[:3])) == 3
    queue.add(Entry("small", 50))
    assert "small" in {entry.merchant for entry in queue.take(200, everything)}


def test_whoever_leaves_and_comes_back_has_not_been_forgotten() -> None:
    queue: FairQueue[Entry] = FairQueue()
    for _ in range(10):
        queue.add(Entry("bursts", 900))
        queue.add(Entry("steady", 30))
        queue.add(Entry("steady", 30))
        assert "steady" in {entry.merchant for entry in queue.take(960, everything)}
        queue.take(10**6, everything)
