import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from shopfit.errors import DataError, Problem
from shopfit.merchant.files import MerchantFile
from shopfit.merchant.limits import Limits
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
        ('{"a": -Infinity}', "a.jsonl:2: holds -Infinity"),
        ('{"a": 1e999}', "a.jsonl:2: holds 1e999, which is too large"),
        ('{"a": 1, "a": 2}', "a.jsonl:2: names 'a' twice"),
        ('{"a": "\\ud83d"}', "a.jsonl:2: holds half a character"),
        ("[" * 100_000, "a.jsonl:2: is nested too deep"),
        ('{"a": ' + "[" * 40 + "]" * 40 + "}", "a.jsonl:2 a: is nested too deep (allowed: 32 lists"),
        ('{"a": [' + "9" * 50 + "]}", "a.jsonl:2 a: 99999999"),
        ('{"a": [NaN, -Infinity]}', "a.jsonl:2: holds -Infinity"),
        ('{"' + "k" * 2_000_000 + '": 1}', "a.jsonl:2 'kkkk"),
        (
            '{"a": "' + "x" * 2_000_000 + '"}',
            "a.jsonl:2 a: holds a text of 2000000 characters (allowed: at most 1048576)",
        ),
        ('{"a": "' + "x" * 5_000_000 + '"}', "a.jsonl:2: has 5000010 characters (allowed: at most 4194304 a row)"),
        ('{"a": [{"b": "\\udc80"}]}', "a.jsonl:2: holds half a character"),
        ('{"\\udc80": 1}', "a.jsonl:2: holds half a character"),
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
        ("é".encode("utf-16"), ":1: is not UTF-8; it looks like utf-16"),
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
    assert "a dataset without its state.json" in read(tmp_path)[1][0]


def test_missing_files_and_unknown_kinds(tmp_path: Path) -> None:
    write(tmp_path, "reviews.jsonl", "{}")
    with pytest.raises(DataError, match=r"no file .*review.jsonl; did you mean 'reviews.jsonl'"):
        read_rows(tmp_path / "review.jsonl")
    with pytest.raises(DataError, match=r"(?s)kind that is not read.*\.jsonl, \.json, \.csv, \.parquet"):
        read_rows(write(tmp_path, "a.xlsx", "x"))


def test_what_pandas_writes_for_an_empty_cell_is_missing(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, "a.jsonl", '{"text": NaN, "ids": ["x", NaN]}')) == [
        Row(1, {"text": None, "ids": ["x", None]})
    ]
    rows, problems = read(write(tmp_path, "a.csv", 'w,l,j\nnan,[NaN],"{""x"": NaN}"\n'), w="number", l="list", j="json")
    assert (rows, problems) == ([Row(2, {"w": None, "l": [None], "j": {"x": None}})], [])


@pytest.mark.parametrize("cell", ['["\\ud800"]', "[Infinity]", "[1e999]", "[" * 5000])
def test_json_in_a_cell_of_csv_is_as_strict(tmp_path: Path, cell: str) -> None:
    rows, [problem] = read(
        write(tmp_path, "a.csv", "a,l\n1,{}\n".format('"' + cell.replace('"', '""') + '"')), l="list"
    )
    assert not rows
    assert problem.startswith("a.csv:2 l: ")


def test_columns_are_bounded_over_all_rows(tmp_path: Path) -> None:
    for name, content in {
        "one.jsonl": json.dumps({f"k{number}": 1 for number in range(2000)}),
        "all.jsonl": "".join(json.dumps({f"k{number}": 1}) + "\n" for number in range(2000)),
        "a.csv": ",".join(f"k{number}" for number in range(2000)) + "\n1\n",
    }.items():
        assert "has more than 1000 columns (allowed: at most 1000 columns" in read(write(tmp_path, name, content))[1][0]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_rows_and_values_are_bounded(tmp_path: Path, name: str) -> None:
    rows = [{"a": number, "b": "x"} for number in range(100)]
    if name == "a.parquet":
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    elif name == "a.csv":
        write(tmp_path, name, "a,b\n" + "".join(f"{row['a']},x\n" for row in rows))
    else:
        write(tmp_path, name, "".join(json.dumps(row) + "\n" for row in rows))
    for limits, message in (
        (Limits(rows=99), "rows (allowed: at most 99"),
        (Limits(values=199), "values (allowed: at most 199"),
    ):
        problems: list[Problem] = []
        read_rows(tmp_path / name, problems=problems, limits=limits)
        assert len(problems) == 1
        assert message in str(problems[0])
    assert len(read_rows(tmp_path / name, limits=Limits(rows=100, values=200))) == 100


def test_a_row_of_csv_that_quotes_hold_together_ends(tmp_path: Path) -> None:
    _, [problem] = read(write(tmp_path, "a.csv", 'a,b\n1,2\n"\n' + '","\n' * 1_500_000))
    assert problem == "a.csv:3: begins a row of more than 4194304 characters; is a quote not closed?"
    _, [problem] = read(write(tmp_path, "b.csv", f"a\n{'x' * 1_100_000}\n"))
    assert problem == "b.csv:2: holds a longer text than is read (allowed: at most 1048576 characters)"


def test_a_file_of_nothing_but_mistakes_is_not_read_to_its_end(tmp_path: Path) -> None:
    _, problems = read(write(tmp_path, "a.jsonl", "x\n" * 50_000))
    assert len(problems) == 10_002
    assert problems[-1] == "a.jsonl: is left unread from here on, after 10001 problems"


def test_a_name_that_stands_twice_among_many_is_found_at_once(tmp_path: Path) -> None:
    names = [f"k{number}" for number in range(60_000)]
    row = "{" + ", ".join(f'"{name}": 1' for name in [*names, names[-1]]) + "}"
    assert read(write(tmp_path, "a.jsonl", row))[1] == ["a.jsonl:1: names 'k59999' twice"]
    assert read(write(tmp_path, "a.csv", ",".join([*names, names[-1]]) + "\n1\n"))[1] == [
        "a.csv:1: names column 'k59999' twice"
    ]


def bomb(kind: str, path: Path) -> None:
    """A file of a few kilobytes that stands for gigabytes."""
    text = "x" * 1_000_000
    match kind:
        case "one text, many times":
            table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 6000, pa.int32()), [text])})
            parquet.write_table(table, path, compression="zstd")
        case "texts that begin alike":
            table = pa.table({"text": [f"{text}{number}" for number in range(80)]})
            encoding = {"text": "DELTA_BYTE_ARRAY"}
            parquet.write_table(table, path, compression="zstd", use_dictionary=False, column_encoding=encoding)
        case "a long list":
            table = pa.table({"text": pa.ListArray.from_arrays([0, 30_000_000], pa.nulls(30_000_000, pa.int8()))})
            parquet.write_table(table, path, compression="zstd")
        case "rows without end":
            parquet.write_table(pa.table({"text": pa.nulls(5_000_000, pa.int8())}), path)
        case "one long text":
            parquet.write_table(pa.table({"text": [text * 80]}), path, compression="zstd")
        case "columns without end":
            parquet.write_table(pa.table({f"c{number}": [1] for number in range(1500)}), path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (
            "one text, many times",
            "unpacks to more than a file of its size may hold (allowed: at most 64 MiB and 50 times",
        ),
        ("texts that begin alike", "unpacks to more than a file of its size may hold"),
        ("a long list", "holds lists of millions of values"),
        ("rows without end", "has 5000000 rows (allowed: at most 2000000"),
        ("one long text", "unpacks to 800"),
        ("columns without end", "has 1500 columns (allowed: at most 1000"),
    ],
)
def test_a_small_parquet_file_does_not_unpack_to_gigabytes(tmp_path: Path, kind: str, message: str) -> None:
    bomb(kind, tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 1_000_000
    rows, [problem] = read(tmp_path / "a.parquet")
    assert message in problem
    assert sum(len(str(row.values)) for row in rows) < 70_000_000


def test_arrow_files_are_bounded_in_memory(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 120_000_000]})
    for name, limits in (("packed", Limits(memory=80_000_000)), ("many", Limits(unpacked=1000, packed=1))):
        folder = tmp_path / name
        folder.mkdir()
        if name == "many":
            indices = pa.array([0] * 5000, pa.int32())
            table = pa.table({"text": pa.DictionaryArray.from_arrays(indices, pa.array(["y" * 1000]))})
        with pa.OSFile(str(folder / "data.arrow"), "wb") as file:
            options = pa.ipc.IpcWriteOptions(compression="zstd" if name == "packed" else None)
            with pa.ipc.new_stream(file, table.schema, options=options) as writer:
                writer.write_table(table)
        write(folder, "dataset_info.json", "{}")
        write(folder, "state.json", json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
        problems: list[Problem] = []
        read_rows(folder, problems=problems, limits=limits)
        assert len(problems) == 1
        assert any(words in str(problems[0]) for words in ("memory", "too much to unpack", "unpacks to more"))


def test_text_of_parquet_that_is_not_utf_8_is_named_by_row_and_column(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9", None, b"\xed\xa0\x80"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 4, raw.buffers())
    parquet.write_table(pa.table({"id": [1, 2, 3, 4], "text": text}), tmp_path / "a.parquet")
    rows, problems = read(tmp_path / "a.parquet")
    assert [row.values["text"] for row in rows] == ["fine", None]
    assert [problem.partition(": ")[0] for problem in problems] == ["a.parquet:2", "a.parquet:4"]
    assert "text cannot be read" in problems[0]
    assert "text in UTF-8" in problems[0]


def test_values_of_parquet_out_of_range_are_named(tmp_path: Path) -> None:
    far = pa.array([0, 10**16], pa.int64()).cast(pa.timestamp("ms"))
    parquet.write_table(pa.table({"at": far}), tmp_path / "a.parquet")
    rows, [problem] = read(tmp_path / "a.parquet")
    assert rows == [Row(1, {"at": "1970-01-01T00:00:00"})]
    assert problem.startswith("a.parquet:2: at cannot be read")


@pytest.mark.parametrize(
    "state",
    [
        {"_data_files": [{"filename": "../other/data.arrow"}]},
        {"_data_files": [{"filename": "/etc/passwd"}]},
        {"_data_files": [{"filename": "secrets.txt"}]},
        {"_data_files": [{"filename": "data.arrow"}] * 2},
        {"_data_files": [{"filename": "da\0ta.arrow"}]},
        {"_data_files": [{"filename": 5}]},
        {"_data_files": ["data.arrow"]},
        {"_data_files": []},
        {"_data_files": {}},
        {},
        {"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": [{"filename": "../i.arrow"}]},
        {"_data_files": [{"filename": "data.arrow"}], "_format_columns": 5},
        [],
        5,
    ],
)
def test_what_a_dataset_says_of_its_files_is_checked(tmp_path: Path, state: object) -> None:
    from datasets import Dataset

    Dataset.from_list([{"text": "theirs"}]).save_to_disk(str(tmp_path / "other"))
    Dataset.from_list([{"text": "mine"}]).save_to_disk(str(tmp_path / "mine"))
    (tmp_path / "mine" / "data-00000-of-00001.arrow").rename(tmp_path / "mine" / "data.arrow")
    write(tmp_path / "mine", "state.json", json.dumps(state))
    rows, [problem] = read(tmp_path / "mine")
    assert rows == []
    assert problem.startswith("mine/state.json")
    write(tmp_path / "mine", "state.json", "[" * 100_000)
    assert read(tmp_path / "mine")[1] == ["mine/state.json: is not JSON (allowed: what `save_to_disk` writes)"]


def test_a_dataset_of_several_files_and_chosen_columns(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = Dataset.from_list([{"text": str(number), "other": number} for number in range(700)])
    rows.with_format(columns=["text"]).save_to_disk(str(tmp_path / "a"), num_shards=3)
    read = read_rows(tmp_path / "a")
    assert [(row.line, row.values) for row in read] == [(number + 1, {"text": str(number)}) for number in range(700)]


ENCODED = {
    "windows-1252": "text,label\nDas Zelt für 5 € ist schön groß,gut\n",
    "gb18030": "text,label\n很好的产品,好\n",
    "utf-16": "text,label\n很好 and schön,好\n",
    "shift_jis": "text,label\nとても良い商品です。また買います,良い\n",
    "windows-1251": "text,label\nОчень хороший товар куплю ещё,да\n",
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_other_encodings_are_named_with_the_option_and_read_with_it(tmp_path: Path, encoding: str) -> None:
    text = ENCODED[encoding]
    path = write(tmp_path, "a.csv", text.encode(encoding))
    rows, [problem] = read(path)
    assert rows == []
    assert f"looks like {encoding}" in problem
    assert f"data.encoding: {encoding}" in problem
    [row] = read_rows(MerchantFile(tmp_path, "a.csv", encoding))
    assert list(row.values.values()) == text.split("\n")[1].split(",")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark(tmp_path: Path, codec: str) -> None:
    row = {"text": "很好, sehr schön", "label": "x"}
    write(tmp_path, "a.jsonl", json.dumps(row, ensure_ascii=False).encode(codec))
    assert "data.encoding: utf-16" in read(tmp_path / "a.jsonl")[1][0]
    assert read_rows(MerchantFile(tmp_path, "a.jsonl", "utf-16")) == [Row(1, row)]


def test_an_encoding_that_does_not_fit_either(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", b'{"text": "x"}\n{"text": "\xff\xff"}')
    with pytest.raises(DataError, match=r"a.jsonl:2: byte 0xff is not GB18030"):
        read_rows(MerchantFile(tmp_path, "a.jsonl", "gb18030"))


@pytest.mark.parametrize("encoding", ["windows-1252", "gb18030", "shift_jis", "utf-16"])
def test_what_is_utf_8_is_read_as_it_whatever_the_other_files_are(tmp_path: Path, encoding: str) -> None:
    for text in ("质量很好下次还会买", "\ufeffschön"):
        write(tmp_path, "a.csv", f"text\n{text}\n" if text[0] != "\ufeff" else f"\ufefftext\n{text[1:]}\n")
        [row] = read_rows(MerchantFile(tmp_path, "a.csv", encoding))
        assert list(row.values.values()) == [text.strip("\ufeff")]


@given(content=st.binary(max_size=200), name=st.sampled_from(["a.jsonl", "a.csv", "a.parquet"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_crash_a_reader(tmp_path: Path, content: bytes, name: str) -> None:
    rows, problems = read(write(tmp_path, name, content))
    assert rows or problems
    json.dumps([row.values for row in rows], allow_nan=False).encode()


PIECES = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "\n",
    "text",
    '"a"',
    "\\ud83d",
    "\\u0000",
    "NaN",
    "Infinity",
    "-1e999",
    "9" * 50,
]


@given(
    content=st.lists(st.sampled_from([*PIECES, "\r", ";", "\t", "\ufeff", "é", "|", " "]), max_size=40).map("".join),
    name=st.sampled_from(["a.jsonl", "a.csv"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "windows-1252", "gb18030"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_nothing_but_problems_comes_of_what_is_nearly_a_row(
    tmp_path: Path, content: str, name: str, encoding: str
) -> None:
    write(tmp_path, name, content)
    problems: list[Problem] = []
    file = MerchantFile(tmp_path, name, encoding)
    rows = read_rows(file, cells={"text": "list", "a": "json"}, problems=problems)
    assert rows or problems
    json.dumps([row.values for row in rows], allow_nan=False).encode()
    assert all("\n" not in str(problem) for problem in problems)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7), arrow=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
def test_a_damaged_column_file_is_a_problem(tmp_path: Path, place: int, bit: int, arrow: bool) -> None:
    table = pa.table({"text": ["a", "bc", None], "ids": [["x"], [], ["y", "z"]]})
    path = tmp_path / ("data.arrow" if arrow else "a.parquet")
    if arrow:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        write(tmp_path, "dataset_info.json", "{}")
        write(tmp_path, "state.json", json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    else:
        parquet.write_table(table, path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    rows, problems = read(tmp_path if arrow else path)
    assert rows or problems
