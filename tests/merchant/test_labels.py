"""Labels that are one, and rows that contradict each other."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.merchant.shop import recipe, shop

from shopfit.errors import DataError, RecipeError
from shopfit.merchant.examples import Example, load_examples
from shopfit.merchant.labels import contradictions, one_spelling
from shopfit.merchant.splits import Splits, split
from shopfit.recipe.label_spelling import label_key, loose_key
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Recipe
from shopfit.tasks import task_of


def text(example: Example) -> str:
    return str(example.fields.get("text", ""))


def run(folder: Path, task: Recipe, **files: list[dict[str, Any]]) -> Splits:
    return split(shop(folder, **files), task, text=text, labels=task_of(task.task).labels, catalog=None, history=None)


def rows(*labels: Any, start: int = 0) -> list[dict[str, Any]]:
    return [{"text": f"{number * number:x} {number}", "label": label} for number, label in enumerate(labels, start)]


def loaded(folder: Path, task: Recipe, *labels: Any) -> list[str | None]:
    merchant = shop(folder, rows=rows(*labels))
    return [row.label for row in load_examples(merchant, task, "rows.jsonl", catalog=None, history=None)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[
            ("Yes", "yes"),
            ("YES", " yes "),
            ("café", "cafe\u0301"),
            ("\uff39\uff45\uff53", "yes"),
            ("\uff76\uff9e", "\u30ac"),
            ("yes", "yes\u200b"),
        ],
        *[
            ("a b", "a  b"),
            ("a b", "a\u00a0b"),
            ("5", "5.0"),
            ("5", "5,0"),
            ("\ufeffno", "no"),
            ("STRAẞE", "straße"),
            ("\u212b", "å"),
        ],
    ],
)
def test_one_label(one: str, other: str) -> None:
    assert label_key(one) == label_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        *[("yes", "no"), ("5", "50"), ("1.5", "1"), ("1.10", "1.1"), ("a", "ä")],
        (
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
            "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
        ),
        *[("1,000", "1"), ("10.000", "10"), ("1.000", "1"), ("1.00", "1")],
    ],
)
def test_two_labels(one: str, other: str) -> None:
    assert label_key(one) != label_key(other)
    assert loose_key(one) != loose_key(other)


ONE_OR_TWO = [("m²", "m2"), ("Maße", "Masse"), ("ﬁt", "fit"), ("Straße", "STRASSE"), ("a²", "A2"), ("①", "1")]


@pytest.mark.parametrize(("one", "other"), ONE_OR_TWO)
def test_one_label_or_two(one: str, other: str) -> None:
    assert label_key(one) != label_key(other)
    assert loose_key(one) == loose_key(other)


@pytest.mark.parametrize(("one", "other"), ONE_OR_TWO)
def test_only_the_merchant_knows_whether_they_are_one(tmp_path: Path, one: str, other: str) -> None:
    train, test = rows(*[one, other, one, "c"] * 3), rows(other, "c", start=50)
    with pytest.raises(DataError) as caught:
        run(tmp_path, recipe("choose"), rows=train, rows_test=test)
    assert f"{one!r} (6 rows) and {other!r} (4 rows)" in str(caught.value)
    assert "prompt.labels" in caught.value.next_step
    named = recipe("choose", prompt={"labels": {one: "first", other: "second", "c": "third"}})
    assert run(tmp_path, named, rows=train, rows_test=test).label_counts == {one: 6, other: 3, "c": 3}
    mapped = run(tmp_path, recipe("choose", label_aliases={other: one}), rows=train, rows_test=test)
    assert mapped.label_counts == {one: 9, "c": 3}
    assert mapped.merged == {one: {one: 6, other: 4}}


@given(st.text(max_size=20))
def test_a_key_is_its_own_key(label: str) -> None:
    assert label_key(label_key(label)) == label_key(label)


@given(st.text(max_size=20))
def test_one_label_is_never_two_that_may_be_one(label: str) -> None:
    assert loose_key(label_key(label)) == loose_key(label)
    assert label_key(label.strip()) == label_key(label)


def test_spellings_are_merged_into_the_most_frequent_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = rows(*["Yes", "YES", "yes", "No", "NO", "no", " Yes", "no\u200b"] * 2)
    splits = run(tmp_path, recipe("choose"), rows=train, rows_test=rows("yes", "NO", start=50))
    assert splits.labels == ("Yes", "no")
    assert {row.label for row in (*splits.train, *splits.test)} == {"Yes", "no"}
    assert splits.label_counts == {"Yes": 8, "no": 8}
    assert splits.merged["Yes"] == {"Yes": 4, "yes": 3, "YES": 2}
    assert "Yes: 9 rows (written 'Yes' 4, 'yes' 3, 'YES' 2)" in caplog.text
    assert (
        run(tmp_path, recipe("choose"), rows=train[::-1], rows_test=rows("yes", "NO", start=50)).digest == splits.digest
    )


def test_a_spelling_of_the_test_set_is_no_label_of_its_own(tmp_path: Path) -> None:
    splits = run(tmp_path, recipe("choose"), rows=rows(*["a", "b"] * 4), rows_test=rows("A", "B", start=50))
    assert [row.label for row in splits.test] == ["a", "b"]


def test_labels_of_the_recipe_are_found_in_any_spelling(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"labels": {"Positive": "good", "Negative": "bad"}})
    assert loaded(tmp_path, task, "positive", " NEGATIVE\u200b", "Positive") == ["Positive", "Negative", "Positive"]


def test_thousands_are_not_ones(tmp_path: Path) -> None:
    assert loaded(tmp_path, recipe("choose"), "1.000", "1", "10.000", 10.0) == ["1.000", "1", "10.000", "10"]


def test_stars_match_between_csv_and_json(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,5\nb,5.0\nc,4\n")
    merchant = shop(tmp_path, rows=rows(5, 5.0, "4"))
    for file in ("rows.csv", "rows.jsonl"):
        found = load_examples(merchant, recipe("choose"), file, catalog=None, history=None)
        assert [row.label for row in found] == ["5", "5", "4"]
    named = recipe("choose", prompt={"labels": {"5.0": "five", "4.0": "four"}})
    assert [row.label for row in load_examples(merchant, named, "rows.csv", catalog=None, history=None)] == [
        "5.0",
        "5.0",
        "4.0",
    ]


def test_truth_values_are_yes_and_no_where_the_recipe_has_these(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"labels": {"no": "No", "yes": "Yes"}})
    assert loaded(tmp_path, task, True, False, "TRUE", "false", 1, 0, "Yes") == ["yes", "no"] * 3 + ["yes"]
    other = recipe("choose", prompt={"labels": {"true": "T", "false": "F"}})
    assert loaded(tmp_path, other, "yes", "No", True, 0) == ["true", "false", "true", "false"]
    three = recipe("choose", prompt={"labels": {"yes": "Y", "no": "N", "true": "T", "false": "F"}})
    assert loaded(tmp_path, three, True, "yes") == ["true", "yes"]
    with pytest.raises(DataError, match=r"true is not in prompt.*good, bad; or what it means, in data\.label_aliases"):
        loaded(tmp_path, recipe("choose", prompt={"labels": {"good": "G", "bad": "B"}}), True)


def test_aliases_of_the_recipe(tmp_path: Path) -> None:
    task = recipe(
        "choose",
        prompt={"labels": {"positive": "P", "negative": "N"}},
        label_aliases={"5": "positive", "Pos": "positive", "1": "negative", "true": "positive"},
    )
    assert loaded(tmp_path, task, 5, "5.0", "POS", 1, True) == ["positive"] * 3 + ["negative", "positive"]
    assert loaded(tmp_path, recipe("choose", label_aliases={"5": "good"}), 5, "bad") == ["good", "bad"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"prompt": {"labels": {"Yes": "y", "yes": "n"}}},
            "'Yes', 'yes' differ by case, spaces, width or Unicode form",
        ),
        ({"prompt": {"labels": {"5": "y", "5.0": "n"}}}, "'5', '5.0' differ by"),
        (
            {"prompt": {"labels": {"a": "y", "b": "n"}}, "data": {"label_aliases": {"x": "c"}}},
            "'c' is not in prompt.labels",
        ),
        (
            {"prompt": {"labels": {"a": "y", "b": "n"}}, "data": {"label_aliases": {"5 *": "c"}}},
            "data.label_aliases: for '5 *', 'c' is not in prompt.labels (allowed: 'a', 'b')",
        ),
        ({"data": {"label_aliases": {"X": "a", "x": "b"}}}, "'X', 'x' are one label"),
        ({"task": "generate", "data": {"label_aliases": {"X": "a"}}}, "only for task choose"),
    ],
)
def test_recipes_that_cannot_be_meant(change: dict[str, Any], message: str) -> None:
    task = change.get("task", "choose")
    document = {
        "name": "r",
        "task": task,
        "data": {"file": "rows.jsonl"} | change.get("data", {}),
        "prompt": {"template": "{text}"} | change.get("prompt", {}),
        "evaluate": {"metric": "accuracy" if task == "choose" else "exact_match"},
    }
    with pytest.raises(RecipeError) as caught:
        parse_recipe(document)
    assert message in str(caught.value)


def test_contradictions_are_counted_within_and_between(tmp_path: Path) -> None:
    train = [*rows(*["a", "b"] * 4), {"text": "Same  thing", "label": "a"}, {"text": "same thing", "label": "b"}]
    train.append({"text": "once more", "label": "a"})
    test = [{"text": "solid and pretty", "label": "a"}, {"text": "solid and pretty", "label": "b"}]
    test += [{"text": "once more", "label": "b"}]
    found = run(tmp_path, recipe("choose"), rows=train, rows_test=test).contradictions
    assert (found.train, found.test, found.between, found.total) == (2, 2, 1, 5)
    assert "2 in the training rows, 2 in the test set, 1 in the test set against the training rows" in str(found)
    assert "rows.jsonl:9 and " in str(found)


def test_what_shows_nothing_hides_no_contradiction() -> None:
    rows_ = [Example("1", {"t": "I ❤️ it"}, label="good"), Example("2", {"t": "I ❤ it"}, label="bad")]
    assert contradictions(rows_, [], lambda example: str(example.fields["t"])).train == 2


def test_what_is_no_contradiction() -> None:
    same = [Example(str(number), {"text": "t"}, label="a") for number in range(3)]
    several = [Example(str(item), {"text": "t"}, relevant=(item,)) for item in "ab"]
    outputs = [Example(str(number), {"text": "t"}, output={"a": number}) for number in range(2)]
    assert contradictions(same, same, text).total == 0
    assert contradictions(several, several, text).total == 0
    assert contradictions(outputs, [], text).train == 2


def test_examples_without_several_spellings_are_as_they_were() -> None:
    examples = [Example("1", {"text": "t"}, label="a"), Example("2", {"text": "u"})]
    assert one_spelling(recipe("choose"), examples) == ([examples], {})


def test_two_hundred_labels_with_one_example_each(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(200)]
    splits = run(tmp_path, recipe("choose"), rows=rows(*labels), rows_test=rows(*labels[:50], start=500))
    assert (len(splits.labels), len(splits.train), len(splits.test)) == (200, 200, 50)
    shots = run(tmp_path, recipe("choose", shots=200), rows=rows(*labels), rows_test=rows("class 3", start=500))
    assert len(shots.train) == 200
    (tmp_path / "rows.test.jsonl").unlink()
    with pytest.raises(DataError, match="too few groups or examples a label"):
        run(tmp_path, recipe("choose"), rows=rows(*labels))
