"""Files that people bring: columns guessed or named, every bad row, and the good ones in our own form."""

from pathlib import Path

import pytest

from shopfit.merchant.brought import BadRow, Brought, Catalogs, Kind, Reading, read_brought
from shopfit.merchant.catalog import Catalog, Item
from shopfit.recipe.loading import load_recipe

GERMAN = 'Kundenmeinung;Stimmung;Preis\nSehr gut;positive;1\n\n"Zwei\nZeilen";meh;2\nSchlecht;Negative;3\n;positive;4\n'


def brought(
    folder: Path,
    content: str | bytes,
    recipe: str = "review-sentiment",
    kind: Kind = "examples",
    reading: Reading | None = None,
    *,
    name: str = "content.csv",
    catalogs: Catalogs | None = None,
) -> Brought:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_brought(folder, name, kind, load_recipe(recipe), reading or Reading(), catalogs or Catalogs())


def test_bad_rows_are_told_by_the_line_of_the_file_and_the_good_ones_are_ours(tmp_path: Path) -> None:
    found = brought(tmp_path, GERMAN)
    assert found.chosen == {"text": "Kundenmeinung", "label": "Stimmung"}
    assert found.left_out == ("Preis",)
    assert found.bad == (
        BadRow(4, "label (Stimmung)", "'meh' is none of the labels", "negative, positive"),
        BadRow(7, "text (Kundenmeinung)", "the text is empty", ""),
    )
    assert found.ours == [{"text": "Sehr gut", "label": "positive"}, {"text": "Schlecht", "label": "negative"}]
    assert found.bad_cells[4] == {"Kundenmeinung": "Zwei\nZeilen", "Stimmung": "meh", "Preis": "2"}
    assert (found.rows, found.bad_lines, found.usable) == (4, 2, True)


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("fine, and quick\tpositive\nfoul\tnegative\n", ["fine, and quick", "foul"]),
        ('"Bad, bad" really\tnegative\nfoo, "bar"\tpositive\n', ['"Bad, bad" really', 'foo, "bar"']),
        ("great,positive\npoor,negative\n", ["great", "poor"]),
        ("评论,标签\n很好,positive\n", ["很好"]),
        ("a b c,positive,x\n", ["a b c"]),
    ],
)
def test_lines_without_names_of_columns_are_rows(tmp_path: Path, content: str, texts: list[str]) -> None:
    found = brought(tmp_path, content)
    assert [row["text"] for row in found.ours] == texts
    assert not found.bad
    assert found.first[0].line == 2 - (not found.headed)


def test_a_column_that_says_the_same_of_every_row_is_no_label(tmp_path: Path) -> None:
    rows = "".join(f"a message about tea {n},web,{('parcel', 'refund')[n % 2]}\n" for n in range(6))
    found = brought(tmp_path, f"written,arrived by,desk\n{rows}", "support-intent")
    assert found.chosen == {"text": "written", "label": "desk"}


def test_a_column_of_numbers_that_come_once_is_no_label_of_a_recipe_that_names_its_labels(tmp_path: Path) -> None:
    found = brought(tmp_path, "review,order\nlovely tea,1701\nstale tea,1702\nquick parcel,1703\n")
    assert (found.chosen, found.unanswered) == ({"text": "review"}, "label")
    assert len(found.unlabeled) == 3


def test_columns_named_by_hand_come_before_guesses(tmp_path: Path) -> None:
    content = "text,label,real\nwrong,negative,right\n"
    found = brought(tmp_path, content, reading=Reading(columns={"text": "real", "label": "label"}))
    assert found.ours == [{"text": "right", "label": "negative"}]
    none = brought(tmp_path, content, reading=Reading(columns={"label": "label"}))
    assert none.bad == (BadRow(None, "text", "no column is chosen", ""),)
    assert not none.usable
    rows = brought(tmp_path, content, reading=Reading(headed=False))
    assert rows.columns == ("column 1", "column 2", "column 3")


def test_without_a_column_for_labels_all_rows_wait_for_one(tmp_path: Path) -> None:
    content, reading = "text,shop\nfine tea,one\n,two\n", Reading(columns={"text": "text"})
    found = brought(tmp_path, content, reading=reading)
    assert found.unanswered == "label"
    assert found.unlabeled == [{"text": "fine tea"}]
    assert not found.ours
    assert found.usable
    test = brought(tmp_path, content, reading=reading, kind="test")
    assert test.bad == (BadRow(None, "label", "no column is chosen", ""),)
    assert not test.usable


def test_another_encoding_is_named(tmp_path: Path) -> None:
    text = "评论,标签\n" + "这家的龙井茶很香，物流也快,positive\n茶叶碎了，味道很差,negative\n" * 9
    found = brought(tmp_path, text.encode("gb18030"))
    assert found.likely == ("gb18030",)
    assert not found.usable
    assert brought(tmp_path, text.encode("gb18030"), reading=Reading("gb18030")).copies == 16
    assert brought(tmp_path, "text\nşapka\n".encode("cp1254")).likely == (
        "windows-1254",
        "windows-1252",
        "windows-1250",
    )


def test_ids_are_of_the_catalog_and_lists_are_read(tmp_path: Path) -> None:
    catalog = Catalog({"t1": Item("t1", "Tea", {"id": "t1", "title": "Tea"})})
    content = "search term,clicked\ngreen,t1\nblack,t1|t9\n"
    found = brought(tmp_path, content, "product-recommendation", catalogs=Catalogs(catalog))
    assert found.ours == [{"query": "green", "relevant": ["t1"]}]
    assert [(one.line, one.field) for one in found.bad] == [(3, "relevant (clicked)")]


def test_a_catalog_keeps_what_else_it_says_and_an_export_needs_no_columns(tmp_path: Path) -> None:
    plain = brought(tmp_path, 'SKU;Name;Preis;Farbe\n1;Tee;"4,50";grün\n1;Tee;5;rot\n', kind="catalog")
    assert plain.ours == [{"Farbe": "grün", "id": "1", "title": "Tee", "price": 4.5}]
    assert [(one.line, one.what) for one in plain.bad] == [(3, "'1' is the id of an earlier row")]
    shopify = "Handle,Title,Body (HTML),Vendor,Variant SKU,Variant Price\nmug,Mug,<p>Holds tea</p>,Us,m-1,9.50\n"
    export = brought(tmp_path, shopify, kind="catalog")
    assert export.export == "Shopify"
    assert export.ours[0]["id"] == "m-1"
    assert not export.bad


def test_lines_of_json_that_are_none_are_told(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": "positive", "id": "1"}\nnope\n{"text": "b", "label": "negative", "id": "1"}\n'
    found = brought(tmp_path, lines, name="content.jsonl")
    assert found.ours == [{"id": "1", "text": "a", "label": "positive"}]
    assert [one.line for one in found.bad] == [2, 3]
    assert found.headed is None
    assert str(tmp_path) not in str(found.bad)
