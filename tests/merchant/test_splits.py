import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.merchant.shop import ITEMS, recipe, shop

from shopfit.errors import DataError
from shopfit.merchant.examples import Example
from shopfit.merchant.splits import Splits, digest_of, split
from shopfit.recipe.schema import Recipe
from shopfit.tasks import task_of


def text(example: Example) -> str:
    return " ".join(str(example.fields.get(name, "")) for name in ("text", "query", "input"))


def run(folder: Path, task: Recipe, **files: list[dict[str, Any]]) -> Splits:
    return split(
        shop(folder, **files),
        task,
        text=text,
        labels=task_of(task.task).labels,
        catalog=ITEMS if task.data.catalog else None,
        history=None,
    )


def refused(folder: Path, task: Recipe, **files: list[dict[str, Any]]) -> str:
    with pytest.raises(DataError) as caught:
        run(folder, task, **files)
    assert caught.value.next_step
    return str(caught.value)


def labelled(count: int, labels: str = "ab", start: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f"{number * number:x} {number}", "label": labels[number % len(labels)]}
        for number in range(start, start + count)
    ]


def test_a_fixed_test_set_beside_the_file(tmp_path: Path) -> None:
    splits = run(tmp_path, recipe("choose"), rows=labelled(100), rows_test=labelled(10, start=1000))
    assert (len(splits.train), len(splits.valid), len(splits.test)) == (80, 20, 10)
    assert (splits.test_kind, splits.labels) == ("fixed", ("a", "b"))
    assert Counter(each.label for each in splits.valid) == {"a": 10, "b": 10}


def test_a_named_test_set_comes_first(tmp_path: Path) -> None:
    files = {"rows": labelled(30), "rows_test": labelled(10, start=100), "other": labelled(6, start=200)}
    assert len(run(tmp_path, recipe("choose", test_file="other.jsonl"), **files).test) == 6


def test_a_test_set_is_held_out(tmp_path: Path) -> None:
    splits = run(tmp_path, recipe("choose"), rows=labelled(160))
    assert splits.test_kind == "held out"
    assert Counter(each.label for each in splits.test) == {"a": 24, "b": 24}
    other_seed = run(tmp_path, recipe("choose", tune={"seed": 8}), rows=labelled(160))
    assert other_seed.test == splits.test
    assert other_seed.valid != splits.valid
    assert len(run(tmp_path, recipe("choose", test_fraction=0.5), rows=labelled(40)).test) == 20


def test_the_test_set_is_cut(tmp_path: Path) -> None:
    fixed = run(tmp_path, recipe("choose", max_test=7), rows=labelled(30), rows_test=labelled(20, start=100))
    assert len(fixed.test) == 7
    assert fixed == run(tmp_path, recipe("choose", max_test=7), rows=labelled(30), rows_test=labelled(20, start=100))
    (tmp_path / "rows.test.jsonl").unlink()
    held = run(tmp_path, recipe("choose", max_test=4), rows=labelled(30))
    assert len(held.test) == 4
    assert len(held.train) + len(held.valid) == 26


def test_leaks_are_removed_from_train_and_counted(tmp_path: Path) -> None:
    long = "a rather long sentence about one particular tent"
    rows = [
        *labelled(8),
        {"text": "Stays DRY", "label": "a"},
        {"text": long + "s", "label": "b"},
        {"text": "u", "label": "a", "group": "g"},
    ]
    test = [
        {"text": "stays  dry", "label": "b"},
        {"text": long, "label": "b"},
        {"text": "v", "label": "a", "group": "g"},
    ]
    splits = run(tmp_path, recipe("choose"), rows=rows, rows_test=test)
    assert len(splits.train) == 8
    assert (splits.leaks.duplicates, splits.leaks.near_duplicates, splits.leaks.shared_groups) == (1, 1, 1)
    assert len(splits.test) == 3


def test_shots_are_balanced_and_follow_the_seed(tmp_path: Path) -> None:
    files = {"rows": [*labelled(40, "aab"), *labelled(3, "c", start=50)], "rows_test": labelled(4, start=100)}
    splits = run(tmp_path, recipe("choose", shots=9), **files)
    assert Counter(each.label for each in splits.train) == {"a": 3, "b": 3, "c": 3}
    assert splits.valid == []
    assert run(tmp_path, recipe("choose", shots=9), **files) == splits
    assert (
        run(
            tmp_path,
            recipe(
                "choose",
                shots=9,
            ),
            **files,
        ).digest
        == splits.digest
    )
    other = run(tmp_path, recipe("choose", shots=9, tune={"seed": 8}), **files)
    assert (other.train != splits.train, other.digest != splits.digest, other.test) == (True, True, splits.test)


def test_shots_of_rank_are_drawn_evenly(tmp_path: Path) -> None:
    rows = [{"query": f"q{number}", "relevant": ["a"]} for number in range(30)]
    splits = run(tmp_path, recipe("rank", shots=10), rows=rows, rows_test=[{"query": "z", "relevant": ["b"]}])
    assert (len(splits.train), splits.labels) == (10, ())


@pytest.mark.parametrize(("count", "fraction", "valid"), [(99, 0.2, 0), (100, 0.2, 20), (100, 0.01, 4), (200, 0.1, 20)])
def test_validation_rows(tmp_path: Path, count: int, fraction: float, valid: int) -> None:
    task = recipe("choose", tune={"valid_fraction": fraction})
    splits = run(tmp_path, task, rows=labelled(count), rows_test=labelled(4, start=1000))
    assert (len(splits.train), len(splits.valid)) == (count - valid, valid)


def test_many_labels_still_give_validation_rows(tmp_path: Path) -> None:
    splits = run(tmp_path, recipe("choose"), rows=labelled(100, "abcdefghij"), rows_test=labelled(4, start=1000))
    assert len(splits.valid) == 20
    assert len({each.label for each in splits.train}) == 10


def test_no_validation_rows_from_one_group(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [row | {"group": "g"} for row in labelled(100)]
    assert run(tmp_path, recipe("choose"), rows=rows, rows_test=labelled(4, start=1000)).valid == []
    assert "no validation set" in caplog.text


def test_labels_keep_the_recipes_order(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"labels": {"z": "Z", "b": "B", "a": "A"}})
    assert run(tmp_path, task, rows=labelled(10), rows_test=labelled(4, start=100)).labels == ("z", "b", "a")


def test_refused(tmp_path: Path) -> None:
    two = labelled(2, start=100)
    assert "leaves 1 example to train on; at least 2" in refused(
        tmp_path, recipe("choose"), rows=labelled(1), rows_test=two
    )
    copied = refused(tmp_path, recipe("choose"), rows=labelled(3), rows_test=labelled(2))
    assert "leaves 1 example to train on after 2 that the test set gives away" in copied
    one_class = refused(tmp_path, recipe("choose"), rows=labelled(9, "a"), rows_test=two)
    assert "every training example in rows.jsonl has the label 'a'" in one_class
    only = refused(tmp_path, recipe("choose"), rows=labelled(9), rows_test=labelled(3, "acd", start=100))
    assert "labels 'c', 'd' are in the test set only" in only
    more = refused(tmp_path, recipe("choose", shots=50), rows=labelled(9), rows_test=two)
    assert "data.shots is 50, but rows.jsonl leaves 9 examples" in more
    assert "set data.shots to 9 or less" in more
    few = refused(tmp_path, recipe("choose", shots=2), rows=labelled(9, "abc"), rows_test=two)
    assert "data.shots is 2, fewer than the 3 labels" in few
    assert "has no rows" in refused(tmp_path, recipe("choose"), rows=labelled(9), rows_test=[])
    assert "there is no file" in refused(tmp_path, recipe("choose", test_file="no.jsonl"), rows=labelled(9))
    assert "is the training file" in refused(tmp_path, recipe("choose", test_file="./rows.jsonl"), rows=labelled(9))


def test_a_label_of_the_recipe_may_be_absent_from_training(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"labels": {"a": "A", "b": "B", "c": "C"}})
    splits = run(tmp_path, task, rows=labelled(9), rows_test=labelled(3, "abc", start=100))
    assert splits.labels == ("a", "b", "c")
    assert {each.label for each in splits.train} == {"a", "b"}
    assert {each.label for each in splits.test} == {"a", "b", "c"}


def test_one_shot_and_none(tmp_path: Path) -> None:
    rows = [{"query": f"q{row}", "relevant": ["a"]} for row in range(6)]
    test = [{"query": "z", "relevant": ["b"]}]
    assert len(run(tmp_path, recipe("rank", shots=1), rows=rows, rows_test=test).train) == 1
    assert run(tmp_path, recipe("rank", shots=0), rows=rows, rows_test=test).train == []
    (tmp_path / "rows.jsonl").unlink()
    assert run(tmp_path, recipe("rank"), rows_test=test).train == []
    assert "there is no file" in refused(tmp_path, recipe("rank", shots=1), rows_test=test)
    assert "task choose needs examples, or a starter" in refused(
        tmp_path, recipe("choose"), rows_test=[{"text": "x", "label": "a"}]
    )
    one = refused(tmp_path, recipe("choose", shots=1), rows=labelled(9), rows_test=labelled(2, start=100))
    assert "data.shots is 1, fewer than the 2 labels" in one


def test_an_absent_example_file_is_told_or_refused(tmp_path: Path) -> None:
    files = {"rows_test": [{"query": "z", "relevant": ["b"]}]}
    found = run(tmp_path, recipe("rank"), **files)
    assert (found.absent, found.without_examples) == ("rows.jsonl", "no rows.jsonl: pairs from the catalog")
    (tmp_path / "orders.jsonl").write_text("")  # another recipe's
    assert run(tmp_path, recipe("rank"), **files).absent == "rows.jsonl"
    for name in ("row.jsonl", "rows.csv"):
        (tmp_path / name).write_text("")
        message = refused(tmp_path, recipe("rank"), **files)
        assert f"rows.jsonl; did you mean {name!r}?" in message
        assert run(tmp_path, recipe("rank", shots=0), **files).absent == "rows.jsonl"
        (tmp_path / name).unlink()
    rows = [{"query": f"q{row}", "relevant": ["a"]} for row in range(6)]
    assert run(tmp_path, recipe("rank"), rows=rows, **files).absent == ""


def test_too_few_to_hold_out(tmp_path: Path) -> None:
    assert "no test set can be held out of the 1 example" in refused(tmp_path, recipe("choose"), rows=labelled(1))
    grouped = [row | {"group": "g"} for row in labelled(30)]
    assert "no test set can be held out of the 30 examples" in refused(tmp_path, recipe("choose"), rows=grouped)


def test_bad_rows_of_both_files_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, recipe("choose"), rows=[{"text": "a"}], rows_test=[{"label": "a"}])
    assert "rows.jsonl label" in message
    assert "rows.test.jsonl:1: none of the fields" in message


def test_a_digest_stays_what_it_was_and_a_score_is_part_of_it() -> None:
    parts = (
        [Example("1", {"text": "a", "stars": 4}, label="x", group="g", weight=2.0)],
        [Example("2", {"query": "q"}, relevant=("a", "b"), candidates=("a", "b", "c"))],
        [Example("3", {"input": "i"}, output={"a": [1]}), Example("4", {"input": "j"}, output="o", at="2026-05-01")],
    )
    # adapters in registries name their data by it
    assert digest_of(*parts) == "94d06dde19e6ed75a4b682be2b24e15864b60aabf3780e7ed215d96d318df538"
    rated = [digest_of([Example("1", {"text": "a"}, score=score)]) for score in (None, 4.0, 4.5, 0.0)]
    assert len(set(rated)) == 4


def test_the_digest_is_that_of_the_rows_used(tmp_path: Path) -> None:
    rows, test = labelled(12), labelled(4, start=100)
    digest = run(tmp_path, recipe("choose"), rows=rows, rows_test=test).digest
    assert len(digest) == 64
    assert run(tmp_path, recipe("choose"), rows=rows[::-1], rows_test=test).digest == digest
    assert (
        run(tmp_path, recipe("choose", prompt={"template": "Other: {text}"}), rows=rows, rows_test=test).digest
        == digest
    )
    assert run(tmp_path, recipe("choose"), rows=[*rows[1:], rows[0] | {"weight": 2}], rows_test=test).digest != digest
    assert run(tmp_path, recipe("choose"), rows=rows, rows_test=[*test[1:], test[0] | {"label": "b"}]).digest != digest


ROW = st.fixed_dictionaries(
    {"text": st.text("abc ", min_size=1, max_size=30).filter(str.strip), "label": st.sampled_from("xyz")},
    optional={"group": st.integers(0, 12)},
)


@given(
    rows=st.lists(ROW, min_size=12, max_size=60),
    test=st.none() | st.lists(ROW, min_size=1, max_size=20),
    shots=st.none() | st.integers(3, 30),
    seed=st.integers(0, 3),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_always_holds(
    tmp_path: Path, rows: list[dict[str, Any]], test: list[dict[str, Any]] | None, shots: int | None, seed: int
) -> None:
    (tmp_path / "rows.test.jsonl").unlink(missing_ok=True)
    files = {"rows": rows} | ({"rows_test": test} if test is not None else {})
    task = recipe("choose", shots=shots, tune={"seed": seed})
    try:
        splits = run(tmp_path, task, **files)
    except DataError as error:
        assert error.next_step  # noqa: PT017 - too few of something, which is said
        return
    parts = [splits.train, splits.valid, splits.test]
    texts = [{" ".join(text(each).casefold().split()) for each in part} for part in parts]
    assert not (texts[0] | texts[1]) & texts[2]
    ids = [each.id for part in parts for each in part]
    assert len(set(ids)) == len(ids)
    groups = [{each.group for each in part if each.group is not None} for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert len(splits.train) >= 2
    assert {each.label for each in splits.valid} | {each.label for each in splits.train} <= set(splits.labels)
    assert {each.label for each in splits.test} <= set(splits.labels)
    if shots is not None:
        assert len(splits.train) + len(splits.valid) == shots
    assert splits == run(tmp_path, task, **files)
    assert len(json.dumps(splits.digest)) == 66
