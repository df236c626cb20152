"""Unlabeled rows: read as examples are, without an answer, and without those that say nothing new."""

from pathlib import Path
from typing import Any

import pytest
from tests.merchant.shop import ITEMS, recipe, shop

from shopfit.errors import DataError
from shopfit.merchant.examples import Example
from shopfit.merchant.unlabeled import load_unlabeled, without_copies
from shopfit.recipe.schema import Recipe


def read(folder: Path, task: Recipe, **files: list[dict[str, Any]]) -> list[Example]:
    return load_unlabeled(shop(folder, **files), task, catalog=ITEMS if task.data.catalog else None, history=None)


def refused(folder: Path, task: Recipe, **files: list[dict[str, Any]]) -> DataError:
    with pytest.raises(DataError) as caught:
        read(folder, task, **files)
    assert caught.value.next_step
    return caught.value


def test_the_file_beside_the_examples_or_the_one_that_is_named(tmp_path: Path) -> None:
    beside, named = [{"text": "beside"}, {"text": "open", "label": None}], [{"text": "named"}]
    assert [row.fields["text"] for row in read(tmp_path, recipe("choose"), rows_unlabeled=beside)] == ["beside", "open"]
    other = read(tmp_path, recipe("choose", unlabeled="mail.jsonl"), mail=named)
    assert [row.fields["text"] for row in other] == ["named"]
    assert all(row.label is None for row in other)


def test_columns_are_mapped_and_the_answers_need_not_be_there(tmp_path: Path) -> None:
    task = recipe("choose", columns={"text": "body", "label": "stars"})
    [row] = read(tmp_path, task, rows_unlabeled=[{"body": "hello"}])
    assert row.fields == {"text": "hello"}
    wrong = refused(tmp_path, task, rows_unlabeled=[{"text": "hello"}])
    assert "there is no column 'body'" in str(wrong)
    assert "stars" not in str(wrong)
    assert "filled in" in str(refused(tmp_path, task, rows_unlabeled=[{"body": "hello", "stars": "good"}]))


def test_every_row_with_a_label_is_named(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"row {row}"} for row in range(4)]
    rows[1]["label"], rows[3]["label"] = "good", "bad"
    error = refused(tmp_path, recipe("choose"), rows_unlabeled=rows)
    assert "is an unlabeled file with labels in it" in error.message
    assert [problem.where.rpartition(":")[2] for problem in error.problems] == ["2 label", "4 label"]
    assert "move the rows that have their label to rows.jsonl" in error.next_step


def test_bad_rows_are_named_all_at_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"history": ["a", "nope"]}, {"query": "x", "relevant": ["a"]}, {"id": 3}]
    error = refused(tmp_path, recipe("rank"), rows_unlabeled=rows)
    assert [problem.where.rpartition("jsonl:")[2] for problem in error.problems] == ["1 history", "2 relevant", "3"]


def test_rows_to_rank_may_bring_candidates(tmp_path: Path) -> None:
    [row] = read(tmp_path, recipe("rank"), rows_unlabeled=[{"query": "x", "candidates": ["a", "b"]}])
    assert (row.candidates, row.relevant) == (("a", "b"), ())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(tmp_path, recipe("choose"), rows=[{"text": "a", "label": "x"}])
    assert "rows.unlabeled.jsonl" in error.message
    assert "data.unlabeled" in error.next_step


def test_rows_that_say_nothing_new_are_left_out() -> None:
    long = "the tent kept us dry for nine wet days on the coast"
    rows = [
        Example("copy", {"text": "Short  one"}),
        Example("near", {"text": long.replace("nine", "ten")}),
        Example("of a test group", {"text": "something else"}, group="t"),
        Example("of a known shopper", {"text": "and another thing"}, group="k"),
    ]
    test = [Example("t", {"text": long}, label="a", group="t")]
    known = [Example("k", {"text": "short one"}, label="a", group="k")]
    kept = without_copies(rows, test, known, lambda row: str(row.fields["text"]), 0.92)
    assert [row.id for row in kept] == ["of a known shopper"]
