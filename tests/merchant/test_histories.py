"""Earlier steps of a history: what a shopper who stopped earlier would have left."""

from typing import Any

from tests.merchant.shop import recipe

from shopfit.merchant.examples import Example
from shopfit.merchant.histories import earlier_steps, with_earlier_steps
from shopfit.recipe.schema import Recipe


def task(**data: Any) -> Recipe:
    return recipe("rank", **data)


def row(history: str, **fields: str) -> Example:
    return Example("7", {"history": tuple(history), **fields}, relevant=("z",))


def steps(rank: Recipe, example: Example) -> list[tuple[str, str]]:
    return [("".join(step.fields["history"]), *step.relevant) for step in earlier_steps(rank, example)]


def test_every_item_came_after_the_earlier_ones() -> None:
    assert steps(task(), row("abc")) == [("a", "b"), ("ab", "c")]
    assert with_earlier_steps(task(), [row("abc")])[-1] == row("abc")
    assert {step.group for step in earlier_steps(task(), row("abc"))} == {"7"}
    assert len({step.id for step in with_earlier_steps(task(), [row("abcd")])}) == 4


def test_an_item_that_was_seen_before_is_no_step_unless_it_may_be_recommended_again() -> None:
    assert steps(task(), row("aab")) == [("aa", "b")]
    assert steps(task(repeats=True), row("aab")) == [("a", "a"), ("aa", "b")]


def test_what_was_asked_before_is_not_known() -> None:
    assert steps(task(), row("abc", query="a tent")) == []
    assert steps(task(), Example("7", {"history": ("a", "b")}, relevant=("z",), candidates=("y", "z"))) == []
    assert steps(task(history_catalog="articles.jsonl"), row("abc")) == []
    assert steps(task(), row("a")) == []
