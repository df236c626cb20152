import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.merchant.shop import ITEMS, recipe, shop

from shopfit.errors import DataError
from shopfit.merchant.examples import Example, load_examples, seen
from shopfit.recipe.schema import Recipe


def load(folder: Path, task: Recipe, *rows: dict[str, Any]) -> list[Example]:
    catalog = ITEMS if task.data.catalog else None
    return load_examples(shop(folder, rows=rows), task, "rows.jsonl", catalog=catalog, history=None)


def problems(folder: Path, task: Recipe, *rows: dict[str, Any]) -> list[str]:
    with pytest.raises(DataError) as caught:
        load(folder, task, *rows)
    assert caught.value.next_step
    return [str(problem).removeprefix(f"{folder}/rows.jsonl") for problem in caught.value.problems]


def test_choose(tmp_path: Path) -> None:
    row = {
        "text": "Fine.",
        "label": " good ",
        "item": "a",
        "group": 7,
        "weight": 2,
        "at": "2026-05-01T12:00:00Z",
        "x": [1],
    }
    [example] = load(tmp_path, recipe("choose"), row)
    assert example == Example(
        id=example.id,
        fields={"text": "Fine.", "item": "a", "x": [1]},
        label="good",
        group="7",
        weight=2.0,
        at="2026-05-01T12:00:00Z",
    )
    assert len(example.id) == 16
    assert example.where == f"{tmp_path}/rows.jsonl:1"


def test_rank(tmp_path: Path) -> None:
    row = {"id": 3, "query": "q", "history": ["b", 7, "b"], "relevant": ["a", "a"], "candidates": ["a", "c"]}
    [example] = load(tmp_path, recipe("rank"), row)
    assert (example.id, example.relevant, example.candidates) == ("3", ("a",), ("a", "c"))
    assert example.fields == {"query": "q", "history": ["b", "7", "b"]}
    assert seen(example.fields) == ("b", "7", "b")


def test_rank_without_a_catalog_takes_titles(tmp_path: Path) -> None:
    [example] = load(tmp_path, recipe("rank", catalog=None), {"history": "Dune", "relevant": "Solaris"})
    assert (example.fields, example.relevant) == ({"history": "Dune"}, ("Solaris",))


def test_generate(tmp_path: Path) -> None:
    first, second = load(
        tmp_path, recipe("generate"), {"input": "i", "output": {"a": []}}, {"input": "j", "output": "o"}
    )
    assert (first.output, second.output, first.fields) == ({"a": []}, "o", {"input": "i"})


def test_rate(tmp_path: Path) -> None:
    row = {"text": "Fine.", "score": 4, "user": "ann", "weight": 2, "label": "x"}
    [example] = load(tmp_path, recipe("rate", bounds=[1, 5]), row)
    wanted = Example(example.id, {"text": "Fine.", "user": "ann", "label": "x"}, score=4.0, weight=2.0)
    assert (example, type(example.score)) == (wanted, float)
    [other] = load(tmp_path, recipe("choose"), {"text": "Fine.", "label": "x", "score": 4})
    assert (other.score, other.fields["score"]) == (None, 4)  # of another task it is a field like any


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("choose", {"text": "x"}, ":2 label: is missing (allowed: text, a whole number, true or false)"),
        ("choose", {"text": "x", "label": ""}, ":2 label: is missing"),
        ("choose", {"text": "x", "label": [1]}, ":2 label: [1] is not accepted"),
        ("choose", {"text": "x", "label": 0.5}, ":2 label: 0.5 is not accepted"),
        ("choose", {"text": " ", "label": "a"}, ":2 text: the text is empty"),
        ("choose", {"text": "x", "label": "a", "weight": 0}, ":2 weight: 0 is not accepted (allowed: a number above 0"),
        ("choose", {"text": "x", "label": "a", "weight": True}, ":2 weight: true is not accepted"),
        ("choose", {"text": "x", "label": "a", "weight": 10**400}, ":2 weight: 1000"),
        (
            "choose",
            {"text": "x", "label": "a", "at": "May"},
            ":2 at: 'May' is not accepted (allowed: a time in ISO 8601",
        ),
        ("choose", {"text": "x", "label": "a", "at": 5}, ":2 at: 5 is not accepted"),
        (
            "choose",
            {"text": "x", "label": "a", "group": [1]},
            ":2 group: [1] is not accepted (allowed: text or a whole number)",
        ),
        ("choose", {"text": "x", "label": "a", "id": {"a": 1}}, ":2 id: {'a': 1} is not accepted"),
        ("choose", {"text": "x", "label": "a", "id": "one"}, ":2 id: 'one' is the id of "),
        ("rank", {"query": "x"}, ":2 relevant: is missing (allowed: a list of item ids, at least one)"),
        ("rank", {"query": "x", "relevant": []}, ":2 relevant: is missing"),
        ("rank", {"query": "x", "relevant": ["a", None]}, ":2 relevant: ['a', None] is not accepted"),
        (
            "rank",
            {"query": "x", "relevant": ["z"]},
            ":2 relevant: 'z' is not in the catalog (allowed: ids of the catalog)",
        ),
        (
            "rank",
            {"relevant": ["a"]},
            ":2: none of the fields that the prompt shows is there (allowed: any of history, query)",
        ),
        ("rank", {"relevant": ["a"], "history": ["zz"]}, ":2 history: 'zz' is not in the catalog"),
        (
            "rank",
            {"relevant": ["a"], "history": [["a"]]},
            ":2 history: [['a']] is not accepted (allowed: an item id, or a list",
        ),
        ("rank", {"relevant": ["a"], "query": "x", "candidates": ["b"]}, ":2 candidates: ['b'] lacks a"),
        (
            "rank",
            {"relevant": ["a"], "query": "x", "candidates": ["a", "q"]},
            ":2 candidates: 'q' is not in the catalog",
        ),
        ("rank", {"relevant": ["a"], "query": "x", "candidates": 1.5}, ":2 candidates: 1.5 is not accepted"),
        ("generate", {"input": "x"}, ":2 output: is missing (allowed: text, or a JSON object)"),
        ("generate", {"input": "x", "output": {}}, ":2 output: is missing"),
        ("generate", {"input": "x", "output": ["a"]}, ":2 output: ['a'] is not accepted"),
        ("generate", {"output": "x"}, ":2 input: the input is empty"),
        ("rate", {"text": "x"}, ":2 score: is missing (allowed: a number from -1000000000000 to 1000000000000)"),
        *[
            ("rate", {"text": "x", "score": value}, f":2 score: {shown} is ")
            for value, shown in (
                (True, "true"),
                ("many", "'many'"),
                ([4], "[4]"),
                ("4 €", "'4 €'"),
                (1e13, "10000000000000.0"),
            )
        ],
        ("rate", {"text": "x", "score": 10**400}, ":2 score: 1000"),
        ("rate", {"text": "x", "score": "n/a"}, ":2 score: 'n/a' is not accepted"),
        ("rate", {"text": "x", "score": 4, "weight": 0}, ":2 weight: 0 is not accepted"),
    ],
)
def test_bad_rows(tmp_path: Path, task: str, row: dict[str, Any], message: str) -> None:
    fine = {
        "choose": {"text": "t", "label": "a"},
        "rank": {"query": "q", "relevant": ["a"]},
        "generate": {"input": "i", "output": "o"},
        "rate": {"text": "t", "score": 4},
    }
    [problem] = problems(tmp_path, recipe(task), fine[task] | {"id": "one"}, row)
    assert problem.startswith(message)


def test_labels_of_the_recipe(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"labels": {"true": "yes", "false": "no"}})
    assert [
        each.label for each in load(tmp_path, task, {"text": "a", "label": True}, {"text": "b", "label": "false"})
    ] == ["true", "false"]
    [problem] = problems(tmp_path, task, {"text": "a", "label": "flase"})
    assert problem.startswith(
        ":1 label: 'flase' is not in prompt.labels; did you mean 'false'? (allowed: true, false; "
    )


def test_every_bad_row_at_once_unreadable_ones_too(tmp_path: Path) -> None:
    merchant = shop(
        tmp_path, rows=[{"text": "a"}, {"text": "", "label": 0.5, "weight": -1}, {"text": "b", "label": "x"}]
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(path.read_text() + "{oops\n")
    with pytest.raises(DataError, match=r"has 5 problems for recipe r") as caught:
        load_examples(merchant, recipe("choose"), "rows.jsonl", catalog=None, history=None)
    places = [problem.where.rpartition("jsonl:")[2] for problem in caught.value.problems]
    assert sorted(places) == ["1 label", "2 label", "2 text", "2 weight", "4"]


def test_history_has_a_catalog_of_its_own(tmp_path: Path) -> None:
    merchant = shop(tmp_path, rows=[{"history": ["a"], "query": "x", "relevant": ["ad"]}])
    with pytest.raises(DataError, match="'ad' is not in the catalog"):
        load_examples(merchant, recipe("rank"), "rows.jsonl", catalog=ITEMS, history=None)
    assert load_examples(merchant, recipe("rank", catalog=None), "rows.jsonl", catalog=None, history=ITEMS)
    with pytest.raises(DataError, match="history: 'a' is not in the catalog"):
        load_examples(merchant, recipe("rank", catalog=None), "rows.jsonl", catalog=None, history=type(ITEMS)({}))


def test_item_fields_of_any_task(tmp_path: Path) -> None:
    task = recipe("choose", prompt={"template": "{liked} {item}"}, item_fields=["liked", "item"])
    merchant = shop(
        tmp_path, rows=[{"liked": ["a", "b"], "item": 7, "label": "yes"}, {"liked": "", "item": "zz", "label": "no"}]
    )
    with pytest.raises(DataError) as caught:
        load_examples(merchant, task, "rows.jsonl", catalog=None, history=ITEMS)
    [problem] = caught.value.problems
    assert problem.where.endswith(":2 item")
    plain = load_examples(merchant, task, "rows.jsonl", catalog=None, history=None)
    assert [example.fields for example in plain] == [{"liked": ["a", "b"], "item": "7"}, {"item": "zz"}]


def test_columns_are_mapped_and_no_longer_there_under_their_own_names(tmp_path: Path) -> None:
    task = recipe("choose", columns={"text": "body", "label": "stars"})
    [example] = load(tmp_path, task, {"body": "B", "stars": 5, "text": "not this", "lang": "en"})
    assert (example.label, example.fields) == ("5", {"text": "B", "lang": "en"})
    swapped = recipe("choose", columns={"text": "label", "label": "text"})
    [example] = load(tmp_path, swapped, {"label": "long words", "text": "x"})
    assert (example.label, example.fields) == ("x", {"text": "long words"})


def test_mapped_columns_are_named_in_messages(tmp_path: Path) -> None:
    task = recipe("choose", columns={"text": "boddy", "label": "stars"})
    found = problems(tmp_path, task, {"body": "B", "stars": None})
    assert found[0] == " data.columns.text: there is no column 'boddy'; did you mean 'body'?"
    assert any(problem.startswith(":1 label (column 'stars'): is missing") for problem in found)


def test_csv_of_every_task(tmp_path: Path) -> None:
    (tmp_path / "rank.csv").write_text('q,seen,relevant,candidates,weight\nwarm,a|b,"[""c""]",a|b|c,0.5\ndry,,7,,\n')
    merchant, columns = shop(tmp_path), {"query": "q", "history": "seen"}
    first, second = load_examples(merchant, recipe("rank", columns=columns), "rank.csv", catalog=ITEMS, history=None)
    assert (first.fields, first.relevant, first.candidates) == (
        {"query": "warm", "history": ["a", "b"]},
        ("c",),
        ("a", "b", "c"),
    )
    assert (first.weight, second.fields, second.relevant, second.candidates) == (0.5, {"query": "dry"}, ("7",), None)
    (tmp_path / "out.csv").write_text('input,output\ni,"{""a"": 1}"\nj,words\n')
    made = load_examples(merchant, recipe("generate"), "out.csv", catalog=None, history=None)
    assert [example.output for example in made] == [{"a": 1}, "words"]


def test_exact_copies_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = {"text": "a", "label": "x"}
    examples = load(
        tmp_path, recipe("choose"), row, dict(reversed(row.items())), row | {"label": "y"}, row | {"id": "1"}
    )
    assert [(example.label, example.where[-2:]) for example in examples] == [("x", ":1"), ("y", ":3"), ("x", ":4")]
    assert "left out 1 exact copy" in caplog.text


def test_ids_come_from_content_alone(tmp_path: Path) -> None:
    rows = [{"text": "é", "label": "x"}, {"text": "b", "label": "x"}]
    before = {example.fields["text"]: example.id for example in load(tmp_path, recipe("choose"), *rows)}
    after = {
        example.fields["text"]: example.id
        for example in load(tmp_path, recipe("choose"), {"label": "z", "text": "0"}, *rows[::-1])
    }
    assert before.items() <= after.items()


def test_near_names_are_searched_only_where_they_are_read(tmp_path: Path) -> None:
    rows = [{"query": f"q{number}", "relevant": ["item b"]} for number in range(30)]
    named = type(ITEMS)({"item-b": replace(ITEMS["b"], id="item-b")})
    with pytest.raises(DataError) as caught:
        load_examples(shop(tmp_path, rows=rows), recipe("rank"), "rows.jsonl", catalog=named, history=None)
    hints = ["did you mean 'item-b'" in problem.what for problem in caught.value.problems]
    assert hints == [True] * 20 + [False] * 10


def test_a_dataset_and_json_lines_give_the_same_examples(tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [{"query": "q", "history": ["a"], "relevant": ["b"]}, {"query": "r", "history": None, "relevant": ["c"]}]
    merchant = shop(tmp_path, rows=rows)
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "rows"))
    first, second = (
        load_examples(merchant, recipe("rank"), file, catalog=ITEMS, history=None) for file in ("rows.jsonl", "rows")
    )
    assert first == second
    assert json.dumps([dict(example.fields) for example in first])


def test_weights_and_times_have_the_format_of_their_column(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text;label;weight;at\na;x;0,5;31.12.2025\nb;y;1.250,0;1.2.2026\nc;x;nan;\n")
    found = load_examples(shop(tmp_path), recipe("choose"), "rows.csv", catalog=None, history=None)
    assert [(row.weight, row.at) for row in found] == [(0.5, "2025-12-31"), (1250.0, "2026-02-01"), (1.0, None)]


@pytest.mark.parametrize(
    ("written", "scores"),
    [
        (["4,5", "3", "1,0"], [4.5, 3.0, 1.0]),
        (["4.5", "3", "1.0"], [4.5, 3.0, 1.0]),
        (["4.5", "-3", " 2 "], [4.5, -3.0, 2.0]),
        (["1.250,5", "3,5", "10"], [1250.5, 3.5, 10.0]),
        (["1e2", "3", "-0"], [100.0, 3.0, 0.0]),
    ],
)
def test_scores_are_numbers_in_the_format_of_their_column(
    tmp_path: Path, written: list[str], scores: list[float]
) -> None:
    lines = [f"t{row};{score};{row + 1},5\n" for row, score in enumerate(written)]
    (tmp_path / "rows.csv").write_text("text;score;weight\n" + "".join(lines))
    found = load_examples(shop(tmp_path), recipe("rate"), "rows.csv", catalog=None, history=None)
    assert [row.score for row in found] == scores
    assert [row.weight for row in found] == [1.5, 2.5, 3.5]  # in the format of its own


@pytest.mark.parametrize("given", [{"bounds": [1, 5]}, {"prompt": {"labels": {"1": "poor", "5": "fine"}}}])
def test_scores_lie_in_the_bounds_of_the_recipe(tmp_path: Path, given: dict[str, Any]) -> None:
    written = [1, 5, 0.99, "5,01", float("nan")]
    rows = [{"text": f"t{row}", "score": score} for row, score in enumerate(written)]
    found = problems(tmp_path, recipe("rate", **given), *rows)
    allowed = "(allowed: a number from 1 to 5)"
    assert found == [
        f":3 score: 0.99 is not accepted {allowed}",
        f":4 score: '5,01' is not accepted {allowed}",
        f":5 score: is missing {allowed}",
    ]


def test_a_score_beyond_the_bounds_is_told_all_their_digits_and_what_a_price_has_too_many(tmp_path: Path) -> None:
    rows = [{"text": "a", "score": 1234568}, {"text": "b", "score": "€4.50"}]
    allowed = "allowed: a number from 0.1234567 to 1234567"
    assert problems(tmp_path, recipe("rate", bounds=[0.1234567, 1234567]), *rows) == [
        f":1 score: 1234568 is not accepted ({allowed})",
        f":2 score: '€4.50' is not accepted ({allowed}, without a currency)",
    ]


def test_a_column_of_scores_that_may_mean_two_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,Stars,weight\na,4.500,1.500\nb,2,\n")
    task = recipe("rate", columns={"score": "Stars"})
    with pytest.raises(DataError) as caught:
        load_examples(shop(tmp_path), task, "rows.csv", catalog=None, history=None)
    weight, score = map(str, caught.value.problems)
    assert "weight: '1.500' is 1.5 or 1500" in weight
    assert "Stars: '4.500' is 4.5 or 4500" in score
    named = recipe("rate", columns={"score": "Stars"}, decimal="point")
    first, _ = load_examples(shop(tmp_path), named, "rows.csv", catalog=None, history=None)
    assert (first.score, first.weight) == (4.5, 1.5)


def test_a_huge_number_in_json_is_no_score(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "score": 4}\n{"text": "b", "score": 1e400}\n')
    with pytest.raises(DataError, match=r"rows\.jsonl:2"):
        load_examples(shop(tmp_path), recipe("rate"), "rows.jsonl", catalog=None, history=None)


@pytest.mark.parametrize("weight", ["inf", "-1", "0", "1e40", "2 €", "heavy"])
def test_weights_that_are_none(tmp_path: Path, weight: str) -> None:
    (tmp_path / "rows.csv").write_text(f"text,label,weight\na,x,{weight}\n")
    with pytest.raises(DataError, match=r"weight: .* is not accepted"):
        load_examples(shop(tmp_path), recipe("choose"), "rows.csv", catalog=None, history=None)


def test_columns_that_may_mean_two_things_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label,weight,at\na,x,1.500,1/2/2025\nb,x,2,3/4/2025\n")
    with pytest.raises(DataError) as caught:
        load_examples(shop(tmp_path), recipe("choose"), "rows.csv", catalog=None, history=None)
    weight, at = map(str, caught.value.problems)
    assert "weight: '1.500' is 1.5 or 1500" in weight
    assert "at: '1/2/2025' may begin with the day or the month" in at


def test_an_answer_beside_its_own_name_is_hinted_at(tmp_path: Path) -> None:
    found = problems(tmp_path, recipe("choose"), {"text": "a", "Label": "x"})
    assert (
        found[0] == " label: there is no column 'label'; did you mean 'Label'? (allowed: data.columns: {label: Label})"
    )


def test_columns_of_a_catalog_are_not_missed_in_examples(tmp_path: Path) -> None:
    task = recipe("rank", columns={"title": "Name", "query": "search"})
    [example] = load(tmp_path, task, {"search": "q", "relevant": ["a"]})
    assert example.fields == {"query": "q"}


@pytest.mark.parametrize("value", ["\u200b", " \ufeff", float("nan"), None])
def test_what_nobody_sees_is_missing(value: Any) -> None:
    from shopfit.merchant.values import as_id, is_missing

    assert is_missing(value)
    assert as_id(value) is None


def test_a_file_without_answers_says_so_once_and_what_it_has(tmp_path: Path) -> None:
    merchant = shop(tmp_path, rows=[{"text": f"a {number}", "stars": number} for number in range(30)])
    with pytest.raises(DataError) as caught:
        load_examples(merchant, recipe("choose"), "rows.jsonl", catalog=None, history=None)
    [problem] = caught.value.problems
    assert "there is no column 'label', but 'text', 'stars'" in str(problem)
    assert "data.columns: {label: the one that holds it}" in str(problem)
