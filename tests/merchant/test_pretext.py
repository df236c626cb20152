"""Pretext pairs: made of what a catalog and histories say, never of a test row, and light beside examples."""

from typing import Any

import pytest
from tests.merchant.shop import recipe

from shopfit.errors import DataError
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example
from shopfit.merchant.pretext import WEIGHT, hold_out_pairs, pairs_of_catalog, pretext_pairs
from shopfit.recipe.schema import Recipe


def catalog(*rows: dict[str, Any]) -> Catalog:
    items = [{"id": f"i{number}", "title": f"Title {number}"} | row for number, row in enumerate(rows)]
    return Catalog({row["id"]: Item(row["id"], row["title"], row) for row in items})


def text(example: Example) -> str:
    return " ".join([str(example.fields.get("query", "")), *example.fields.get("history", ())]).strip()


def pairs(
    items: Catalog | None,
    unlabeled: list[Example] | None = None,
    test: list[Example] | None = None,
    *,
    task: Recipe | None = None,
    examples: int = 0,
) -> list[Example]:
    task = task or recipe("rank")
    return pretext_pairs(task, items, unlabeled or [], test or [], text=text, examples=examples)


def asked(found: list[Example]) -> list[tuple[str, tuple[str, ...]]]:
    return [(text(pair), pair.relevant) for pair in found]


DESCRIBED = catalog(
    {"description": "keeps the rain off two sleepers"},
    {"category": "stoves", "brand": "Ember"},
    {"description": " ", "category": "stoves", "brand": "Ember"},
    {},
)


def test_what_is_said_of_an_item_asks_for_it() -> None:
    found = pairs(DESCRIBED)
    assert asked(found) == [("keeps the rain off two sleepers", ("i0",)), ("stoves Ember", ("i1", "i2"))]
    assert {pair.weight for pair in found} == {1.0}


def test_descriptions_are_cut_to_the_length_of_a_question() -> None:
    [pair] = pairs(catalog({"description": "word " * 300}))
    assert len(text(pair).split()) == 40


def test_beside_examples_pairs_are_few_and_light() -> None:
    many = catalog(*({"description": f"thing of kind {number:x}"} for number in range(100)))
    found = pairs(many, examples=5)
    assert len(found) == 20
    assert sum(pair.weight for pair in found) < 5
    assert {pair.weight for pair in found} == {WEIGHT}
    assert found == pairs(many, examples=5)
    other = recipe("rank", tune={"seed": 8})
    assert found != pairs(many, examples=5, task=other)


def test_histories_ask_for_their_last_item() -> None:
    rows = [
        Example("1", {"history": ["i0", "i1", "i3"]}, group="g"),
        Example("2", {"history": ["i0"]}),
        Example("3", {"query": "a stove"}),
        Example("4", {"history": ["i3", "i0", "i3"]}),
    ]
    found = pairs(catalog({}, {}, {}, {}), rows)
    assert [(pair.fields["history"], pair.relevant, pair.group) for pair in found] == [(["i0", "i1"], ("i3",), "g")]
    again = pairs(catalog({}, {}, {}, {}), rows, task=recipe("rank", repeats=True))
    assert [pair.relevant for pair in again] == [("i3",), ("i3",)]
    assert pairs(None, rows, task=recipe("rank", catalog=None))  # plain titles will do


def test_histories_of_other_items_ask_for_nothing() -> None:
    rows = [Example("1", {"history": ["i0", "i1"]})]
    found = pairs(DESCRIBED, rows, task=recipe("rank", history_catalog="other.jsonl"))
    assert all("history" not in pair.fields for pair in found)


def test_no_pair_repeats_a_test_row() -> None:
    test = [
        Example("t", {"query": "Keeps the rain off two  sleepers"}, relevant=("i3",)),
        Example("h", {"history": ["i0", "i1"]}, relevant=("i3",)),
    ]
    found = pairs(DESCRIBED, [Example("1", {"history": ["i0", "i1", "i3"]})], test)
    assert asked(found) == [("stoves Ember", ("i1", "i2"))]


def test_the_query_goes_where_the_prompt_shows_text() -> None:
    task = recipe("rank", prompt={"template": "Seen: {history}\nWants: {wish}"})
    [pair] = pretext_pairs(task, catalog({"brand": "Ember"}), [], [], text=lambda row: str(row.fields), examples=0)
    assert pair.fields == {"wish": "Ember"}


ONLY_ITEMS = recipe("rank", prompt={"template": "Seen: {history}"})


@pytest.mark.parametrize(
    ("items", "task", "examples", "said", "next_step"),
    [
        (None, recipe("rank", catalog=None), 0, "no examples in rows.jsonl, and no catalog", "data.catalog"),
        (catalog({}, {}), recipe("rank"), 0, "catalog.jsonl says nothing of its items but their titles", "description"),
        (DESCRIBED, ONLY_ITEMS, 0, "the prompt shows items only", "histories"),
        (catalog({}), recipe("rank", pretext=True), 7, "says nothing of its items", "description"),
    ],
    ids=["no catalog", "titles only", "no place for text", "with examples"],
)
def test_nothing_to_make_pairs_of(
    items: Catalog | None, task: Recipe, examples: int, said: str, next_step: str
) -> None:
    with pytest.raises(DataError) as caught:
        pairs(items, task=task, examples=examples)
    assert said in caught.value.message
    assert ("no examples" in caught.value.message) == (examples == 0)
    assert next_step in caught.value.next_step


def test_pairs_are_held_out_where_there_is_no_test_set() -> None:
    found = pairs(catalog(*({"description": f"a {word} thing"} for word in "abcdefghijklmnopqrst")))
    rest, test = hold_out_pairs(recipe("rank"), found, text)
    assert (len(rest), len(test)) == (14, 6)
    assert not {pair.id for pair in rest} & {pair.id for pair in test}
    with pytest.raises(DataError, match="only 1 pairs"):
        hold_out_pairs(recipe("rank"), found[:1], text)


def test_only_so_many_pairs_are_compared_as_it_takes() -> None:
    """A catalog of any size costs what is drawn from it, not what it holds."""
    texts = 0

    def counted(example: Example) -> str:
        nonlocal texts
        texts += 1
        return text(example)

    items = [f"item number {number} of many" for number in range(20_000)]
    large = catalog(*({"id": key, "description": f"{key} said"} for key in items))
    assert len(pairs_of_catalog(recipe("rank"), large, [], counted)) == 4096
    assert texts <= 2 * 4096
