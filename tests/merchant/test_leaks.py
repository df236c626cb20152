import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz import fuzz
from tests.work import calls

from shopfit.merchant.examples import Example
from shopfit.merchant.leaks import remove_leaks


def rows(*texts: str, prefix: str = "", group: str | None = None, label: str = "x") -> list[Example]:
    return [
        Example(id=f"{prefix}{number}", fields={"t": text}, group=group, label=label)
        for number, text in enumerate(texts)
    ]


def text(example: Example) -> str:
    return str(example.fields["t"])


def test_copies_near_copies_and_shared_groups() -> None:
    long = "the tent kept us dry for nine wet days on the coast"
    train = [
        *rows("Warm  BAG\n", long.upper(), long.replace("nine", "ten"), "something else altogether", prefix="a"),
        *rows("unrelated", prefix="b", group="u1"),
    ]
    test = [*rows("warm bag", long, prefix="t", label="y"), *rows("other", prefix="u", group="u1")]
    kept, leaks = remove_leaks(train, test, text, 0.92)
    assert [example.id for example in kept] == ["a3"]
    assert (leaks.duplicates, leaks.near_duplicates, leaks.shared_groups, leaks.total) == (2, 1, 1, 4)
    assert leaks.removed[:2] == (("a0", "t0", 1.0), ("a1", "t1", 1.0))
    [train_id, test_id, similarity] = leaks.removed[2]
    assert (train_id, test_id) == ("a2", "t1")
    assert similarity == pytest.approx(fuzz.ratio(long, long.replace("nine", "ten")) / 100, abs=1e-4)


@pytest.mark.parametrize(
    ("train", "test"),
    [("I ❤️ it", "I ❤ it"), ("مُمْتاز", "ممتــاز"), ("super\u200bb", "superb")],  # a selector, vowels, a stretched line
)
def test_a_copy_is_one_whatever_shows_nothing(train: str, test: str) -> None:
    assert remove_leaks(rows(train), rows(test), text, 0.92)[1].duplicates == 1


def test_short_texts_count_only_when_equal() -> None:
    kept, leaks = remove_leaks(rows("size 10 boots", "size 11 boots"), rows("size 11 boots"), text, 0.92)
    assert ([example.id for example in kept], leaks.near_duplicates) == (["0"], 0)


def test_the_threshold_is_met_when_it_is_reached() -> None:
    left, right = "a" * 20 + "b" * 5, "a" * 20 + "c" * 5  # 2 x 20 of 50 characters
    assert remove_leaks(rows(left), rows(right), text, 0.8)[1].near_duplicates == 1
    assert remove_leaks(rows(left), rows(right), text, 0.801)[1].near_duplicates == 0


def test_a_threshold_of_one_is_for_equal_texts() -> None:
    assert remove_leaks(rows("x" * 30, "x" * 31), rows("x" * 30), text, 1.0)[1].total == 1


WORDS = st.lists(st.sampled_from(["tent", "bag", "warm", "dry", "a", "of"]), max_size=12).map(" ".join)


@given(st.lists(WORDS, max_size=30), st.lists(WORDS, min_size=1, max_size=10), st.sampled_from([0.6, 0.8, 0.92]))
def test_the_same_as_comparing_every_pair(train: list[str], test: list[str], threshold: float) -> None:
    kept, leaks = remove_leaks(rows(*train), rows(*test), text, threshold)

    def leaks_into(mine: str, other: str) -> bool:
        if mine == other:
            return mine != ""
        return min(len(mine), len(other)) >= 20 and fuzz.ratio(mine, other) >= round(100 * threshold, 6)

    assert [text(example) for example in kept] == [
        mine for mine in train if not any(leaks_into(mine, other) for other in test)
    ]
    assert len(kept) + leaks.total == len(train)


def test_ten_thousand_against_a_thousand_are_not_compared_pair_by_pair() -> None:
    draw = random.Random(7)
    words = ["".join(draw.choices("abcdefghijklmnoprstu", k=draw.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(draw.choices(words, k=draw.randint(8, 30))) for _ in range(11_000)]
    train, test = rows(*texts[:10_000], texts[-1] + "!"), rows(*texts[10_000:])
    found = []
    assert calls(lambda: found.append(remove_leaks(train, test, text, 0.92))) < 10_000 * 1000 / 20
    [(kept, leaks)] = found
    assert (len(kept), leaks.near_duplicates) == (10_000, 1)


def long_texts(count: int, size: int) -> list[str]:
    draw = random.Random(11)
    return ["".join(draw.choices("abcdefgh ", k=size)) for _ in range(count)]


def test_of_long_texts_the_beginnings_and_the_lengths_are_compared() -> None:
    [mine, other] = long_texts(2, 6000)
    near = mine[:1000] + "x" + mine[1000:]
    train = rows(mine, near, mine[:3000] + other[3000:], other[:3000] + mine[3000:], mine[:4000])
    kept, leaks = remove_leaks(train, rows(mine), text, 0.92)
    assert [example.id for example in kept] == ["3", "4"]  # another beginning, and a third shorter
    assert (leaks.duplicates, leaks.near_duplicates) == (1, 2)
    assert remove_leaks(train, rows(mine), text, 1.0)[1].total == 1


def test_texts_of_a_hundred_kilobytes_are_compared() -> None:
    texts = long_texts(201, 95_000)  # as a whole, this would take minutes
    kept, leaks = remove_leaks(rows(*texts[:150], texts[-1] + "!"), rows(*texts[150:]), text, 0.92)
    assert (len(kept), leaks.near_duplicates) == (150, 1)


def test_near_copies_of_short_texts_in_a_script_that_says_much_in_little() -> None:
    train = [*rows("这款茶叶味道很香下次还会再来买", "不好喝", prefix="a")]
    test = [*rows("这款茶叶味道很香下次还会再来买。", "很好喝", prefix="t")]
    kept, leaks = remove_leaks(train, test, text, 0.92)
    assert [example.id for example in kept] == ["a1"]
    assert leaks.near_duplicates == 1


def test_full_width_copies() -> None:
    kept, leaks = remove_leaks(rows("ＯＯＬＯＮＧ　１０"), rows("oolong 10", prefix="t"), text, 0.92)
    assert (kept, leaks.duplicates) == ([], 1)
