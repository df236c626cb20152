import json
import os
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from shopfit.errors import DataError, Problem
from shopfit.merchant.reading import Row, read_rows


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path, **cells: str) -> tuple[list[Row], list[str]]:
    problems: list[Problem] = []
    rows = read_rows(path, cells=cells, problems=problems)  # type: ignore[arg-type]
    return rows, [str(problem).replace(str(path), path.name) for problem in problems]


def test_json_lines(tmp_path: Path) -> None:
    path = write(tmp_path, "a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"a": [true, null]}')
    assert read_rows(path) == [Row(1, {"a": 1}), Row(4, {"a": [True, None]})]


def test_line_separators_inside_json_text_do_not_end_a_row(tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", json.dumps({"a": "x\u2028y\u0085z"}, ensure_ascii=False))
    assert read_rows(path) == [Row(1, {"a": "x\u2028y\u0085z"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": }', "a.jsonl:2: is not JSON: Expecting value at column 7 (allowed: one object a line)"),
        ('{"a": 1', "a.jsonl:2: is not JSON"),
        ("{'a': 1}", "a.jsonl:2: is not JSON"),
        ("[1]", "a.jsonl:2: is a list, not an object"),
        ('"x"', "a.jsonl:2: is 'x', not an object"),
        ('{"a": NaN}', "a.jsonl:2: holds NaN, which is not JSON"),
        ('{"a": -Infinity}', "a.jsonl:2: holds -Infinity"),
        ('{"a": 1e999}', "a.jsonl:2: holds 1e999, which is too large"),
        ('{"a": 1, "a": 2}', "a.jsonl:2: names 'a' twice"),
        ('{"a": "\\ud83d"}', "a.jsonl:2: holds half a character"),
        ("[" * 100_000, "a.jsonl:2: holds a number too long, or nesting too deep"),
        ('{"a": ' + "9" * 5000 + "}", "a.jsonl:2: holds a number too long"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(tmp_path: Path, text: str, message: str) -> None:
    rows, [problem] = read(write(tmp_path, "a.jsonl", f'{{"a": 1}}\n{text}\n{{"a": "\\ud83d\\ude00"}}\n'))
    assert problem.startswith(message)
    assert rows == [Row(1, {"a": 1}), Row(3, {"a": "😀"})]


def test_without_a_place_for_problems_all_are_raised(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_rows(write(tmp_path, "a.jsonl", "x\n{}\ny\n"))
    assert [problem.where[-2:] for problem in caught.value.problems] == [":1", ":3"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no rows"),
        (b"\n \n", "has no rows"),
        (b"a\nb\xe9\n", ":2: byte 0xe9 is not UTF-8"),
        ("é".encode("utf-16"), ":1: byte 0xff"),
    ],
)
def test_files_without_text(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    _, problems = read(write(tmp_path, name, content))
    assert message in problems[-1]


def test_csv(tmp_path: Path) -> None:
    text = (
        '\ufeffid,relevant,weight,stock,out,text\n1,a| b |,2.5,Yes,"{""x"": 1}","two\nlines, and "" quotes"\n\n'
        '2,"[""c|d""]",,no,plain,\n'
    )
    cells = {"relevant": "list", "weight": "number", "stock": "flag", "out": "json", "absent": "list"}
    rows, problems = read(write(tmp_path, "a.csv", text), **cells)
    assert problems == []
    assert rows == [
        Row(
            2,
            {
                "id": "1",
                "relevant": ["a", "b"],
                "weight": 2.5,
                "stock": True,
                "out": {"x": 1},
                "text": 'two\nlines, and " quotes',
            },
        ),
        Row(5, {"id": "2", "relevant": ["c|d"], "stock": False, "out": "plain"}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, "a.csv", f"a{delimiter}b\r\n1{delimiter}2\r\n")
    assert read_rows(path) == [Row(2, {"a": "1", "b": "2"})]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "a.csv:2: has 1 cells (allowed: 2, as in the first line)"),
        ("a,b\n1,2,3\n", "a.csv:2: has 3 cells"),
        ("a,a\n1,2\n", "a.csv:1: names column 'a' twice"),
        ("a,,b\n1,2,3\n", "a.csv:1: column 2 has no name"),
        ('a,b\n1,2\n1,"x\n', "a.csv:3: is not CSV"),
        ("a,w\n1,x\n", "a.csv:2 w: 'x' is not accepted (allowed: a number)"),
        ("a,w\n1,inf\n", "a.csv:2 w: 'inf' is not accepted"),
        ("a,l\n1,[x\n", "a.csv:2 l: '[x' is not accepted (allowed: a JSON list, or parts between |)"),
        ("a,f\n1,maybe\n", "a.csv:2 f: 'maybe' is not accepted (allowed: true, false)"),
        ("a,j\n1,{x\n", "a.csv:2 j: '{x' is not accepted (allowed: a JSON object, or text)"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    _, problems = read(write(tmp_path, "a.csv", text), w="number", l="list", f="flag", j="json")
    assert problems[0].startswith(message)


def test_parquet_values_become_those_of_json(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", None],
            "ids": [["x"], []],
            "price": [1.5, float("nan")],
            "exact": [Decimal("2.50"), None],
            "at": [datetime(2026, 5, 1, 12), None],
            "output": [{"level": "low"}, None],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet")
    assert rows[0] == Row(
        1,
        {
            "text": "a",
            "ids": ["x"],
            "price": 1.5,
            "exact": 2.5,
            "at": "2026-05-01T12:00:00",
            "output": {"level": "low"},
        },
    )
    assert rows[1].values["price"] is None
    json.dumps([row.values for row in rows], allow_nan=False)


def test_bad_parquet(tmp_path: Path) -> None:
    assert "is not Parquet" in read(write(tmp_path, "a.parquet", "hello"))[1][0]
    parquet.write_table(pa.table({"a": [b"raw"], "b": [1]}), tmp_path / "b.parquet")
    assert read(tmp_path / "b.parquet")[1] == [
        "b.parquet:1: holds a value of type bytes (allowed: text, numbers, lists, objects and times)"
    ]
    parquet.write_table(pa.table({"a": [float("inf")]}), tmp_path / "c.parquet")
    assert "an infinite number" in read(tmp_path / "c.parquet")[1][0]


def test_a_folder_of_datasets(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    rows.save_to_disk(str(tmp_path / "one"))
    DatasetDict({"train": rows, "dev": rows}).save_to_disk(str(tmp_path / "two"))
    assert read_rows(tmp_path / "one") == [Row(1, {"text": "a", "label": "x"}), Row(2, {"text": "b", "label": "y"})]
    assert read(tmp_path / "two")[1] == ["two: holds several splits (allowed: two/dev or two/train)"]
    assert len(read_rows(tmp_path / "two" / "dev")) == 2


def test_folders_that_are_no_dataset(tmp_path: Path) -> None:
    assert "`datasets` did not write" in read(tmp_path)[1][0]
    write(tmp_path, "dataset_info.json", "{}")
    assert "cannot be loaded" in read(tmp_path)[1][0]


def test_missing_files_and_unknown_kinds(tmp_path: Path) -> None:
    write(tmp_path, "reviews.jsonl", "{}")
    with pytest.raises(DataError, match=r"no file .*review.jsonl; did you mean 'reviews.jsonl'"):
        read_rows(tmp_path / "review.jsonl")
    with pytest.raises(DataError, match=r"(?s)kind that is not read.*\.jsonl, \.json, \.csv, \.parquet"):
        read_rows(write(tmp_path, "a.xlsx", "x"))
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match="is not a file"):
        read_rows(tmp_path / "pipe.jsonl")


@given(content=st.binary(max_size=200), name=st.sampled_from(["a.jsonl", "a.csv", "a.parquet"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_crash_a_reader(tmp_path: Path, content: bytes, name: str) -> None:
    rows, problems = read(write(tmp_path, name, content))
    assert rows or problems
    json.dumps([row.values for row in rows], allow_nan=False).encode()
