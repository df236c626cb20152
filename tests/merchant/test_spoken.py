"""The languages of rows are told where they are not the merchant's."""

from shopfit.base.packaged import PACKAGED
from shopfit.merchant.spoken import language_note, spoken
from shopfit.recipe.languages import is_tag, language_of

ENGLISH = [
    f"The kettle number {number} boils quickly and pours well, we use it every single morning." for number in range(12)
]
CHINESE = [f"第{number}次回购这款茶叶了，味道一直很香，包装也不错，朋友来家里喝了都说好。" for number in range(12)]
GERMAN = [
    f"Die Tasche Nummer {number} ist sehr schön verarbeitet und riecht angenehm nach Leder." for number in range(12)
]


def test_rows_in_the_merchants_language_are_not_spoken_of() -> None:
    assert spoken(CHINESE) == {"zh": 1.0}
    for rows, tag in ((ENGLISH, "en"), (ENGLISH, "en-GB"), (CHINESE, "zh-Hans"), (GERMAN, "de"), (CHINESE, "cmn")):
        assert language_note(rows, tag) == ""


def test_another_language_is_named() -> None:
    note = language_note(CHINESE, "en")
    assert "rows look like zh 100%" in note
    assert "merchant.yaml says en" in note
    assert "de 100%" in language_note(GERMAN, "en")


def test_several_languages_are_named() -> None:
    note = language_note([*ENGLISH, *CHINESE], "en")
    assert "several languages" in note
    assert "en 50%" in note
    assert "zh 50%" in note


def test_what_tells_nothing_is_not_guessed() -> None:
    assert spoken(["👍👍👍", "!!!", "…", "ok", "???"] * 20) == {}
    assert language_note(["lovely"] * 50, "zh") == ""
    assert language_note([], "zh") == ""


def test_tags() -> None:
    assert all(map(is_tag, ("en", "zh-Hant-TW", "pt-BR", "deu")))
    assert not any(map(is_tag, ("zz", "xx-YY", "", "deutsch sprechend", "中文")))
    assert [language_of(tag) for tag in ("zh-Hant-TW", "cmn", "deu", "pt-BR")] == ["zh", "zh", "de", "pt"]
    assert [language_of(tag) for tag in ("nb-NO", "nn", "no", "fil", "tl")] == ["no", "no", "no", "tl", "tl"]
    assert {language_of(tag) for tag in ("yue", "yue-Hant-HK", "wuu", "nan", "hak")} == {"zh"}


def test_a_tag_that_a_packaged_base_lists_is_the_language_itself() -> None:
    listed = {tag for base in PACKAGED.values() for tag in base.languages}
    assert {tag for tag in listed if language_of(tag) != tag} == set()
