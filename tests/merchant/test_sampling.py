import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from shopfit.merchant.examples import Example
from shopfit.merchant.sampling import draw, draw_balanced, hold_out

LABELS = st.lists(st.sampled_from("abc"), min_size=2, max_size=60)


def examples(labels: list[str], groups: list[int | None] | None = None) -> list[Example]:
    return [
        Example(
            id=str(number),
            fields={},
            label=label,
            group=None if groups is None or groups[number] is None else f"g{groups[number]}",
        )
        for number, label in enumerate(labels)
    ]


@st.composite
def grouped(make: st.DrawFn) -> list[Example]:
    labels = make(LABELS)
    groups = make(st.lists(st.none() | st.integers(0, 8), min_size=len(labels), max_size=len(labels)))
    return examples(labels, groups)


@given(grouped(), st.integers(1, 30), st.text(max_size=3))
def test_hold_out(rows: list[Example], count: int, seed: str) -> None:
    rest, held = hold_out(rows, min(count, len(rows) - 1), seed)
    assert Counter(each.id for each in rows) == Counter(each.id for each in [*rest, *held])
    assert not {each.group for each in rest if each.group} & {each.group for each in held}
    assert {each.label for each in rest} == {each.label for each in rows}
    assert (rest, held) == hold_out(rows, min(count, len(rows) - 1), seed)


@given(LABELS, st.integers(0, 30), st.randoms())
def test_without_groups_the_count_is_exact_and_the_labels_keep_their_shares(
    labels: list[str], count: int, shuffle: random.Random
) -> None:
    rows = examples(labels)
    sizes = Counter(labels)
    count = min(count, len(rows) - len(sizes))
    _, held = hold_out(rows, count, "7")
    assert len(held) == count
    shuffled = list(rows)
    shuffle.shuffle(shuffled)
    assert {each.id for each in hold_out(shuffled, count, "7")[1]} == {each.id for each in held}
    if all(size * count / len(rows) <= size - 1 for size in sizes.values()):
        got = Counter(each.label for each in held)
        assert all(abs(got[label] - size * count / len(rows)) < 1 for label, size in sizes.items())


def test_one_large_group_is_not_held_out_whole() -> None:
    rows = examples(["a"] * 20, [0] * 18 + [1, 2])
    _, held = hold_out(rows, 6, "7")
    assert {each.group for each in held} == {"g1", "g2"}


def test_groups_of_one_label_give_a_share_of_each_label() -> None:
    rows = examples(["a"] * 10 + ["b"] * 10, [number // 5 for number in range(20)])
    rest, held = hold_out(rows, 6, "7")
    assert Counter(each.label for each in held) == Counter(each.label for each in rest) == {"a": 5, "b": 5}


def test_what_labels_make_impossible_goes_by_number() -> None:
    rows = examples(["a", "b"] * 5, [number // 2 for number in range(10)])
    rows += examples(list("cdefgh"), [9] * 6)  # labels of one group only: they stay
    rest, held = hold_out(
        [Example(id=str(n), fields={}, label=r.label, group=r.group) for n, r in enumerate(rows)], 5, "7"
    )
    assert len(held) == 4
    assert {each.label for each in held} == {"a", "b"}
    assert len(rest) == 12


def test_nothing_can_be_held_out_of_one_group() -> None:
    assert hold_out(examples(["a"] * 9, [0] * 9), 3, "7")[1] == []


def test_rows_added_later_leave_most_of_a_draw_as_it_was() -> None:
    few, many = examples(["a"] * 100), examples(["a"] * 110)
    before, after = (({each.id for each in hold_out(rows, len(rows) // 5, "7")[1]}) for rows in (few, many))
    assert len(before & after) >= 18


@given(LABELS, st.integers(1, 60), st.integers(0, 9))
def test_draw_balanced(labels: list[str], count: int, seed: int) -> None:
    rows = examples(labels)
    drawn = draw_balanced(rows, count, str(seed))
    assert len(drawn) == min(count, len(rows))
    assert drawn == [each for each in rows if each in drawn] == draw_balanced(rows, count, str(seed))
    got, there = Counter(each.label for each in drawn), Counter(labels)
    most = max(got.values())
    assert all(got[label] >= min(there[label], most - 1) for label in there)


@given(st.integers(1, 40), st.integers(0, 50))
def test_draw(size: int, count: int) -> None:
    rows = examples(["a"] * size)
    drawn = draw(rows, count, "7")
    assert len(drawn) == min(size, count)
    assert drawn == [each for each in rows if each in drawn]


def test_seeds_differ() -> None:
    rows = examples(["a"] * 50)
    assert draw(rows, 10, "1") != draw(rows, 10, "2")
    assert hold_out(rows, 10, "1") != hold_out(rows, 10, "2")
