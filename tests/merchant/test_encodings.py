"""Files that are UTF-8 although the recipe names another encoding, and those that are not."""

import pytest

from shopfit.merchant.encodings import decode

SINGLE = ["windows-1252", "iso-8859-1", "windows-1251"]
PAIRED = ["gb18030", "big5", "shift_jis", "euc-kr", "euc-jp"]


@pytest.mark.parametrize("encoding", [*SINGLE, *PAIRED, "utf-16"])
@pytest.mark.parametrize("before", [0, 100_000])
@pytest.mark.parametrize("text", ["Café", "Чай", "绿茶好", "€", "Gruß aus Köln", "plain"])
def test_utf_8_is_seen_wherever_its_letters_are(encoding: str, before: int, text: str) -> None:
    whole = "plain letters\n" * (before // 14) + text + "\n"
    assert decode(whole.encode(), encoding) == whole


@pytest.mark.parametrize("encoding", SINGLE)
def test_one_letter_of_utf_8_is_enough_where_letters_are_bytes(encoding: str) -> None:
    assert decode("5 °\n".encode(), encoding) == "5 °\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("茅台", "gb18030"),
        ("一台 茅", "gb18030"),
        ("好茶", "gb18030"),
        ("好茶", "big5"),
        ("お茶", "shift_jis"),
        ("ﾃｱ", "shift_jis"),
        ("차", "euc-kr"),
        ("お茶", "euc-jp"),
        ("Café", "windows-1252"),
        ("Чай", "windows-1251"),
    ],
)
def test_a_few_letters_of_the_encoding_stay_its_own(text: str, encoding: str) -> None:
    codec = {"shift_jis": "cp932", "euc-kr": "cp949", "windows-1252": "cp1252", "windows-1251": "cp1251"}
    content = f"text\n{text}\n".encode(codec.get(encoding, encoding))
    assert decode(content, encoding) == f"text\n{text}\n"


def test_a_file_that_is_utf_8_only_at_its_beginning_is_in_the_encoding() -> None:
    content = ("é" * 40_000).encode() + "é\n".encode("cp1252")
    assert decode(content, "windows-1252") == content.decode("cp1252")
