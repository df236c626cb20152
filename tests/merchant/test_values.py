from typing import Any

import pytest

from shopfit.merchant.values import Checks, as_id, as_ids, as_label, is_missing


@pytest.mark.parametrize("value", [None, "", " \n", [], {}])
def test_missing(value: Any) -> None:
    assert is_missing(value)


@pytest.mark.parametrize("value", [0, False, 0.0, "x", [0], {"a": None}])
def test_not_missing(value: Any) -> None:
    assert not is_missing(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(" a ", "a"), (5, "5"), (5.0, "5"), (5.5, None), (True, None), ("", None), (None, None), ([], None)],
)
def test_ids(value: Any, text: str | None) -> None:
    assert as_id(value) == text


def test_lists_of_ids() -> None:
    assert as_ids("a") == ("a",)
    assert as_ids(["b", 1, "b"]) == ("b", "1")
    assert as_ids(["a", None]) is None
    assert as_ids({"a": 1}) is None


def test_labels_of_truth_values_are_written_as_json_writes_them() -> None:
    assert [as_label(value) for value in (True, False, 1, 1.0, "x", 1.5)] == ["true", "false", "1", "1", "x", None]


def test_checks_name_the_files_own_column() -> None:
    checks = Checks("a.csv:3", {"label": "Rating"})
    checks.bad("label", None, "text")
    checks.bad("weight", -1, "a number above 0")
    assert [str(problem) for problem in checks.problems] == [
        "a.csv:3 label (column 'Rating'): is missing (allowed: text)",
        "a.csv:3 weight: -1 is not accepted (allowed: a number above 0)",
    ]
