"""What labels of a shop's own mean: the obvious is guessed, a person's word counts more, of many nobody is asked."""

import pytest

from shopfit.merchant.label_meanings import LEFT_OUT, are_stars, label_values
from shopfit.recipe.loading import load_recipe


@pytest.mark.parametrize(
    ("values", "guessed"),
    [
        (["Positive", "NEGATIVE "], {}),
        (["Good", "bad", "good"], {"good": "positive", "bad": "negative"}),
        (["好评", "差评", "中评"], {"好评": "positive", "差评": "negative", "中评": None}),
        ([1, 0, 1.0], {"1": "positive", "0": "negative"}),
        ([5, 1], {"5": "positive", "1": "negative"}),
        (["1", "2", "3", "4", "5"], {"1": "negative", "2": "negative", "3": None, "4": "positive", "5": "positive"}),
        ([1, 2], {"1": None, "2": None}),
        ([None, "", "yes"], {"yes": "positive"}),
        ([f"kind {number}" for number in range(13)], {}),
        (["x" * 61], {}),
    ],
)
def test_the_obvious_is_guessed(values: list[object], guessed: dict[str, str | None]) -> None:
    found = label_values(values, load_recipe("review-sentiment"))
    assert {one.key: one.label for one in found} == guessed


def test_what_a_person_says_counts_more() -> None:
    said = {"bad": "positive", "good": LEFT_OUT, "fine": None, "meh": "none of the recipe's"}
    found = label_values(["Good", "good", "bad", "fine", "meh"], load_recipe("review-sentiment"), said)
    assert [(one.value, one.rows, one.label) for one in found] == [
        ("Good", 2, LEFT_OUT),
        ("bad", 1, "positive"),
        ("fine", 1, None),
        ("meh", 1, None),
    ]


@pytest.mark.parametrize("recipe", ["support-intent", "review-stars", "reading-level"])
def test_labels_that_are_free_or_have_no_opposite_are_not_guessed(recipe: str) -> None:
    assert not any(one.label for one in label_values(["good", "bad"], load_recipe(recipe)))


@pytest.mark.parametrize(("values", "stars"), [([1, 5], True), (["5.0", "3"], True), ([1, 0], False), ([5], False)])
def test_ratings_are_known(values: list[object], stars: bool) -> None:
    assert are_stars(values) == stars
