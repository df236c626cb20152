"""Text in any language: folding, words, lengths and beginnings."""

import numpy as np
import pytest

from shopfit.merchant.segments import Segment, TextIndex
from shopfit.merchant.text import beginning, clusters, normalised, single_words, weight, words_of
from shopfit.recipe.folding import folded


def test_forms_of_one_character_are_one() -> None:
    assert folded("ＡＢＣ　１２") == folded("abc 12")
    assert folded("ｶﾌﾟﾁｰﾉ") == folded("カプチーノ")
    assert normalised(" Größe\t XL \n") == "grösse xl"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("super\u00adb tea\u200b", "superb tea"),
        ("\ufeffI \u2764\ufe0f it", "I \u2764 it"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u062e\u0648\u0627\u0647\u0645"),
        ("\u0645\u064f\u0645\u0652\u062a\u0627\u0632", "\u0645\u0645\u062a\u0627\u0632"),
        ("\u0645\u0645\u0640\u0640\u062a\u0627\u0632", "\u0645\u0645\u062a\u0627\u0632"),
        ("e\u200d\u0301", "é"),
    ],
)
def test_what_shows_nothing_and_short_vowels_tell_no_texts_apart(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) == normalised(normalised(one))
    assert normalised("\u0622") != normalised("\u0627")  # alef with a madda is a letter of its own
    england, scotland = ("".join(chr(ord(sign) + 0xE0000) for sign in region) for region in ("gbeng", "gbsct"))
    assert normalised(f"\U0001f3f4{england}\U000e007f") != normalised(f"\U0001f3f4{scotland}\U000e007f")


def test_turkish_letters_meet_whatever_their_case() -> None:
    assert folded("İSTANBUL") == folded("istanbul") == folded("ıstanbul") == folded("ISTANBUL")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Café crème à 5 €", ["cafe", "creme"]),
        ("Straße, Äpfel", ["strasse", "apfel"]),
        ("龙井茶 2024春茶", ["龙", "井", "茶", "龙井", "井茶", "2024", "春", "茶", "春茶"]),
        ("مُحَمَّد الكتـــاب", ["محمد", "الكتاب"]),
        ("ดีมาก", ["ดี", "ม", "า", "ก", "ดีม", "มา", "าก"]),
        ("tea/Tee_2", ["tea", "tee_2"]),
        ("!!! 👍🏽", []),
    ],
)
def test_words_that_are_searched_for(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_chinese_search_finds_by_what_it_shares() -> None:
    texts = ["特级西湖龙井绿茶礼盒", "紫砂壶 手工 朱泥", "便携旅行茶具套装"]
    segment = Segment.of(texts, np.zeros((3, 0), np.float32))
    index = TextIndex([segment], np.arange(3))
    assert int(index.words("想要一盒龙井").argmax()) == 0
    assert int(index.words("出差用的茶具").argmax()) == 2
    assert not index.words("咖啡").any()


def test_words_of_an_answer_are_told_apart_by_accents_and_signs() -> None:
    assert single_words("Schön!") == ["schön"]
    assert single_words("很好，喝") == ["很", "好", "喝"]
    assert single_words("👍") != single_words("👎")


def test_what_a_reader_sees_is_one_character() -> None:
    assert len(clusters("👨‍👩‍👧e\u0301ก็")) == 3


def test_lengths_and_beginnings() -> None:
    assert weight("tea") == 3
    assert weight("好喝") == 6
    assert beginning("one two three", 2) == "one two"
    assert beginning("这款茶很香", 2) == "这款茶很"
    assert beginning("one 这款茶很香", 2) == "one 这款"
    assert beginning("one", 5) == "one"
    assert beginning("", 5) == ""


def test_marks_without_end_take_no_time_without_end() -> None:
    """Sorting n marks takes n squared; nobody writes more than eight on a letter."""
    assert words_of("a" + "\u0301\u0316" * 200_000 + "b tent") == ["ab", "tent"]
    assert len(words_of("\u0436" + "\u0301" * 200_000)) <= 1
    assert folded("e\u0301\u0302") == folded("\u00e9\u0302")
