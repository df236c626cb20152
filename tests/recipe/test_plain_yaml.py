from pathlib import Path

import pytest

from shopfit.recipe.plain_yaml import LARGEST, dotted, read_file, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        (".5", 0.5),
        ("-3", -3),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("2026-05-01", "2026-05-01"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("[yes, 1, a]", ["yes", 1, "a"]),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    read = read_text(text)
    assert (read.document, type(read.document), read.problems) == (value, type(value), [])


@pytest.mark.parametrize("text", [".nan", ".inf", "-.Inf", "1e999", "-" + "9" * 400 + ".0"])
def test_numbers_that_are_not_finite_are_mistakes(text: str) -> None:
    [(path, line, what)] = read_text(f"a: {text}").problems
    assert (path, line) == (("a",), 1)
    assert what.endswith("is not a finite number")


@pytest.mark.parametrize("text", ["9" * 5000, "9" * 41, "0x" + "f" * 200_000, "0o" + "7" * 50_000])
def test_numbers_without_end_are_mistakes(text: str) -> None:
    read = read_text(f"a: {text}")
    assert read.problems == [(("a",), 1, "is a number too long to read (allowed: at most 40 digits)")]
    assert read.unread == {("a",)}


def test_keys_are_always_text() -> None:
    assert read_text("{yes: a, 1: b, null: c, true: d}").document == {"yes": "a", "1": "b", "null": "c", "true": "d"}


def test_a_doubled_key_is_named_with_both_lines_and_the_rest_is_read() -> None:
    read = read_text("tune:\n  lr: 1\n  seed: 2\n  lr: 3\n")
    assert read.document == {"tune": {"lr": 1, "seed": 2}}
    assert read.problems == [(("tune", "lr"), 4, "stands a second time, after line 2")]


def test_lines_of_keys_and_of_the_nearest_key_above() -> None:
    read = read_text("a: 1\nb:\n  c: [x,\n    y]\n")
    assert [read.line(path) for path in [("a",), ("b", "c"), ("b", "c", 1), ("b", "missing"), ("z",)]] == [
        1,
        3,
        4,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "anchors"),
        ("b: *x", "anchors"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!str 5", "tag"),
        ("a: [1", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("a: 1\n---\nb: 2", "is not YAML"),
        ("a: \x07", "a character that YAML does not allow"),
        ("[" * 5000, "nested too deep"),
        ("{a: " * 70 + "1" + "}" * 70, "nested too deep (allowed: 64 levels)"),
        ("[" + "1," * 30_000 + "]", "holds too much (allowed: at most 20000 keys and values)"),
        ("".join(f"k{number}: 1\n" for number in range(15_000)), "holds too much"),
    ],
)
def test_what_is_not_plain_is_refused(text: str, message: str) -> None:
    read = read_text(text)
    assert not read.readable
    assert message in read.problems[0][2]


def test_keys_that_are_not_text() -> None:
    assert "a key must be text" in read_text("? [a]\n: 1").problems[0][2]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    large, latin, fine = tmp_path / "large.yaml", tmp_path / "latin.yaml", tmp_path / "fine.yaml"
    large.write_text("#" * (LARGEST + 1))
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    fine.write_bytes(b"\xef\xbb\xbfa: 1\n" + b"#" * (LARGEST - 10))
    assert str(read_file(large)[1][0]) == f"{large}: is too large (allowed: at most 256 KiB)"
    assert str(read_file(latin)[1][0]) == f"{latin}:2: byte 0xe9 is not UTF-8 (allowed: UTF-8 text)"
    assert "is not a file" in str(read_file(tmp_path)[1][0])
    assert read_file(fine)[0].document == {"a": 1}


def test_characters_written_as_in_json() -> None:
    assert read_text(r'"\ud83d\ude00 caf\u00e9"').document == "😀 café"
    assert "half a character" in read_text(r'a: "\ud83d"').problems[0][2]


def test_a_key_breaks_no_message() -> None:
    assert dotted(("tune", "lr", 0)) == "tune.lr.0"
    assert dotted(("data", "columns", "Käufer und Preis")) == "data.columns.Käufer und Preis"
    assert dotted(("a\nb", "\ud800")) == r"'a\nb'.'\ud800'"
    assert len(dotted(("x" * 10_000,))) == 60
