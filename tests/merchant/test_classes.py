"""Columns whose values `datasets` stores as the numbers of classes."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.merchant.shop import recipe

from shopfit.merchant.examples import load_examples
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.reading import read_rows

ROWS = {
    "text": ["a", "b", "c"],
    "label": [0, 1, -1],
    "tags": [[0, 1], [], [1, -1]],
    "more": [{"kind": 1}, {"kind": 0}, None],
}


def saved(folder: Path, name: str) -> Path:
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    classes = ClassLabel(names=["yes", "no"])
    features = {"text": Value("string"), "label": classes, "tags": Sequence(classes), "more": {"kind": classes}}
    rows = Dataset.from_dict(ROWS, features=Features(features))
    if name.endswith(".parquet"):
        rows.to_parquet(str(folder / name))
    else:
        rows.save_to_disk(str(folder / name))
    return folder / name


def noted(path: Path, about: bytes, numbers: list[int]) -> Path:
    table = pa.table({"text": ["a"] * len(numbers), "label": numbers})
    parquet.write_table(table.replace_schema_metadata({b"huggingface": about}), path)
    return path


def about(feature: Any) -> bytes:
    return json.dumps({"info": {"features": {"label": feature}}}).encode()


@pytest.mark.parametrize("name", ["rows", "rows.parquet"])
def test_classes_are_read_by_name(tmp_path: Path, name: str) -> None:
    rows = [row.values for row in read_rows(saved(tmp_path, name))]
    assert [row["label"] for row in rows] == ["yes", "no", None]
    assert [row["tags"] for row in rows] == [["yes", "no"], [], ["no", None]]
    assert [row["more"] for row in rows[:2]] == [{"kind": "no"}, {"kind": "yes"}]


@pytest.mark.parametrize("name", ["rows", "rows.parquet"])
@pytest.mark.parametrize("labels", [{}, {"yes": "Yes", "no": "No"}])
def test_the_number_of_a_class_is_no_truth_value(tmp_path: Path, name: str, labels: dict[str, str]) -> None:
    from datasets import ClassLabel, Dataset

    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})
    rows = rows.cast_column("label", ClassLabel(names=["yes", "no"]))
    (tmp_path / "merchant.yaml").write_text("name: acme\n")
    rows.to_parquet(str(tmp_path / name)) if name.endswith(".parquet") else rows.save_to_disk(str(tmp_path / name))
    task = recipe("choose", file=name, prompt={"labels": labels})
    found = load_examples(Merchant.open(tmp_path), task, name, catalog=None, history=None)
    assert [row.label for row in found] == ["yes", "no"]


def test_what_stands_beside_a_dataset_counts(tmp_path: Path) -> None:
    path = saved(tmp_path, "rows")
    info = json.loads((path / "dataset_info.json").read_text())
    info["features"]["label"]["names"] = ["good", "bad"]
    (path / "dataset_info.json").write_text(json.dumps(info))
    assert [row.values["label"] for row in read_rows(path)] == ["good", "bad", None]
    (path / "dataset_info.json").write_text("{}")  # then what the files say themselves
    assert [row.values["label"] for row in read_rows(path)] == ["yes", "no", None]


def test_numbers_that_are_no_class_are_named_by_row(tmp_path: Path) -> None:
    found: list[Any] = []
    feature = {"names": ["yes", "no"], "_type": "ClassLabel"}
    rows = read_rows(noted(tmp_path / "a.parquet", about(feature), [1, 2]), problems=found)
    assert [row.values["label"] for row in rows] == ["no"]
    assert [str(problem).partition("a.parquet")[2] for problem in found] == [
        ":2: holds class 2 (allowed: 0 to 1, or -1 for none)"
    ]


@pytest.mark.parametrize("feature", [{"_type": "ClassLabel"}, {"_type": "Value", "dtype": "int64"}, None, [], 5, "x"])
def test_numbers_without_names_stay_numbers(tmp_path: Path, feature: Any) -> None:
    rows = read_rows(noted(tmp_path / "a.parquet", about(feature), [1, 0]))
    assert [row.values["label"] for row in rows] == [1, 0]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"\xff",
        b"[" * 100_000,
        b"5",
        b'{"info": {"features": 5}}',
        about({"_type": "ClassLabel", "names": 5}),
        about({"_type": "ClassLabel", "names": [1]}),
        about({"_type": "ClassLabel", "names": ["x" * 17_000_000]}),
    ],
)
def test_names_that_cannot_be_read_are_no_reason_to_guess(tmp_path: Path, content: bytes) -> None:
    found: list[Any] = []
    assert not read_rows(noted(tmp_path / "a.parquet", content, [1, 0]), problems=found)
    assert len(found) == 1
