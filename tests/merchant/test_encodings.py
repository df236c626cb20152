"""Files that are UTF-8 although the recipe names another encoding, and those that are not."""

import pytest

from shopfit.merchant.encodings import NotInEncoding, decode, guesses

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


TURKISH = "Kumaşı yumuşak ama düğmeler çabuk koptu, ışığı güzel\n"
POLISH = "Bardzo ładny płaszcz, świetna jakość, dziękuję za szybką wysyłkę\n"
FRENCH = "Très bonne qualité, la crème est parfaite, déçu par la boîte\n"


@pytest.mark.parametrize(
    ("text", "codec", "named"),
    [
        (TURKISH, "cp1254", ["windows-1254"]),
        (POLISH, "cp1250", ["windows-1250"]),
        (POLISH, "iso-8859-2", ["iso-8859-2"]),
        ("Příliš žluťoučký kůň, výborná kvalita\n", "cp1250", ["windows-1250"]),
        ("Nagyon jó minőségű kabát, gyönyörű színű\n", "cp1250", ["windows-1250"]),
        ("Foarte bună calitate, îmi place această haină şi preţul\n", "cp1250", ["windows-1250"]),
        (FRENCH, "cp1252", ["windows-1252"]),
        ("Þetta er góð vara og ég keypti hana aftur, mjög þægileg\n", "cp1252", ["windows-1252"]),
        ("El niño está feliz, tamaño pequeño. ¿Vale?\n", "cp1252", ["windows-1252"]),
        ("Køb den, rigtig god størrelse på skoene, æske\n", "cp1252", ["windows-1252"]),
        ("Café, Größe, Señor, Ångström\n", "cp1252", ["windows-1252"]),
        ("It’s “nice” – 5 €, 30 °, £6, 2 m²\n", "cp1252", ["windows-1252"]),
        ("Œuvre d'art à 5 €, très bon cœur\n", "iso-8859-15", ["iso-8859-15"]),
        ("şapka ığ\n", "cp1254", ["windows-1254", "windows-1252"]),
        ("España\n", "cp1252", ["windows-1252", "windows-1250"]),
        ("Labai gražus paltas, ačiū už greitą pristatymą, šilta žiema\n", "cp1257", []),
        ("schön größe\n", "cp850", []),
        ("schön, Größe und Café\n", "mac_roman", []),
        ("Дуже гарний товар, дякую\n", "cp1251", ["windows-1251"]),
        ("Πολύ καλό προϊόν, ευχαριστώ\n", "cp1253", []),
        ("מוצר מצוין תודה\n", "cp1255", []),
    ],
)
@pytest.mark.parametrize("before", [0, 100_000])
def test_encodings_are_named_by_how_usual_the_letters_are(text: str, codec: str, named: list[str], before: int) -> None:
    assert list(guesses(b"plain letters\n" * (before // 14) + text.encode(codec))) == named


def test_where_several_encodings_fit_all_are_named() -> None:
    with pytest.raises(NotInEncoding) as caught:
        decode("şapka ığ\n".encode("cp1254"), "utf-8")
    assert "looks like windows-1254 or windows-1252" in caught.value.what
    assert caught.value.allowed.endswith("data.encoding: windows-1254, or windows-1252")
