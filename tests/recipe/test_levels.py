"""Bounds and levels of a rating: which are made, and what is said of those that cannot be."""

import json
import math
from typing import Any

import pytest

from shopfit.errors import RecipeError
from shopfit.recipe.editor import json_schema
from shopfit.recipe.levels import bounds_of, kept_level_problems, level_problems, levels_between
from shopfit.recipe.loading import dump_recipe, parse_recipe

RECIPE: dict[str, Any] = {
    "name": "stars",
    "task": "rate",
    "data": {"file": "ratings.jsonl"},
    "prompt": {"template": "Review: {text}"},
    "evaluate": {"metric": "rmse"},
}
RANGE = "is no range (allowed: the least and the largest score, as [1, 5])"
LEVEL = "is no level of a rating (allowed: a number such as '1', or no labels)"


def with_sections(**sections: Any) -> dict[str, Any]:
    return RECIPE | {name: RECIPE.get(name, {}) | section for name, section in sections.items()}


def problems(**sections: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(with_sections(**sections))
    assert caught.value.next_step
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("low", "high", "levels"),
    [
        (1.0, 5.0, ["1", "2", "3", "4", "5"]),
        (0.0, 10.0, [str(level) for level in range(11)]),
        (-1.0, 0.0, ["-1", "0"]),
        (0.0, 11.0, ["0", "1.1", "2.2", "3.3", "4.4", "5.5", "6.6", "7.7", "8.8", "9.9", "11"]),
        (0.0, 100.0, [str(level) for level in range(0, 101, 10)]),
        (0.5, 1.5, ["0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.1", "1.2", "1.3", "1.4", "1.5"]),
        (1e12, 1e12 + 2, ["1000000000000", "1000000000001", "1000000000002"]),
    ],
)
def test_levels_are_whole_numbers_where_there_are_few_and_eleven_else(
    low: float, high: float, levels: list[str]
) -> None:
    assert list(levels_between(low, high)) == levels


@pytest.mark.parametrize("high", [1e-300, 0.1 + 0.2, 1.0000000001, 12345678.9, 1e12 - 0.25])
@pytest.mark.parametrize("low", [0.0, -0.3, 1 / 3, -1e12, 1.0])
def test_levels_rise_from_the_least_score_to_the_largest(low: float, high: float) -> None:
    if low >= high:
        return
    levels = [float(level) for level in levels_between(low, high)]
    assert 2 <= len(levels) <= 11
    assert (levels[0], levels[-1]) == (low, high)
    assert levels == sorted(set(levels))


def test_of_bounds_next_to_each_other_there_are_two_levels() -> None:
    assert levels_between(1.5, math.nextafter(1.5, 2)) == ("1.5", "1.5000000000000002")
    assert levels_between(0.0, 5e-324) == ("0", "5e-324")


def test_levels_between_bounds_of_many_digits_are_short() -> None:
    assert levels_between(1 / 3, 1.0)[:3] == ("0.3333333333333333", "0.4", "0.46667")
    assert levels_between(3.99, 129.95)[:3] == ("3.99", "16.59", "29.18")


def test_bounds_are_those_of_the_recipe_or_of_its_levels() -> None:
    assert bounds_of([1, 5], {}) == (1, 5)
    assert bounds_of(None, {"0": "none", "2.5": "half", "10": "all"}) == (0, 10)
    assert bounds_of(None, {}) is None
    assert level_problems(None, {}) == level_problems([0, 10], {"0": "none", "2.5": "half", "10": "all"}) == []


@pytest.mark.parametrize(
    ("bounds", "shown"),
    [
        ([5, 1], "[5.0, 1.0]"),
        ([3, 3], "[3.0, 3.0]"),
        ([1], "[1.0]"),
        ([], "[]"),
        ([1, 2, 3], "[1.0, 2.0, 3.0]"),
        ([0, 2e12], "[0.0, 2000000000000.0]"),
    ],
)
def test_what_is_no_range_is_refused(bounds: list[float], shown: str) -> None:
    assert problems(data={"bounds": bounds}) == [f"data.bounds: {shown} {RANGE}"]


@pytest.mark.parametrize("bounds", [5, "1-5", [1, "many"], [1, None], [1, float("nan")], [float("-inf"), 5], {"1": 5}])
def test_what_are_no_numbers_are_no_bounds(bounds: Any) -> None:
    [problem] = problems(data={"bounds": bounds})
    assert problem.startswith("data.bounds")
    assert "number" in problem


@pytest.mark.parametrize(
    ("labels", "bounds", "told"),
    [
        ({"bad": "poor", "good": "fine"}, None, [f"prompt.labels: {name!r} {LEVEL}" for name in ("bad", "good")]),
        ({"1": "poor", "nan": "fine"}, None, [f"prompt.labels: 'nan' {LEVEL}"]),
        ({"1": "poor", "inf": "fine"}, None, [f"prompt.labels: 'inf' {LEVEL}"]),
        ({"1": "poor", "1e13": "fine"}, None, [f"prompt.labels: '1e13' {LEVEL}"]),
        ({"1": "poor", "1_0": "fine"}, None, [f"prompt.labels: '1_0' {LEVEL}"]),
        *[
            ({"0": "poor", odd: "fine"}, None, [f"prompt.labels: {odd!r} {LEVEL}"])
            for odd in ("1\n", " 1", "\u0661", "0x1")
        ],
        ({"1": "poor", "4,5": "fine"}, None, [f"prompt.labels: '4,5' {LEVEL}"]),
        (
            {"5": "fine", "1": "poor"},
            None,
            ["prompt.labels: levels of a rating rise (allowed: the least first, each once)"],
        ),
        (
            {"1": "poor", "1e0": "low", "5": "fine"},
            None,
            ["prompt.labels: levels of a rating rise (allowed: the least first, each once)"],
        ),
        (
            {"1": "poor", "5": "fine"},
            [0, 5],
            ["prompt.labels: levels go from 1 to 5 (allowed: from 0 to 5, the bounds)"],
        ),
        ({"x": "poor", "5": "fine"}, [5, 0], [f"data.bounds: [5.0, 0.0] {RANGE}", f"prompt.labels: 'x' {LEVEL}"]),
        ({"5": "fine"}, None, ["prompt.labels: one label leaves nothing to choose (allowed: none, or at least two)"]),
    ],
)
def test_what_are_no_levels_is_refused(labels: dict[str, str], bounds: list[float] | None, told: list[str]) -> None:
    data = {} if bounds is None else {"bounds": bounds}
    assert problems(prompt={"labels": labels}, data=data) == told


def test_a_share_beyond_which_errors_count_linearly_is_below_the_range() -> None:
    for share in (-0.1, 1, float("nan")):
        [problem] = problems(tune={"huber": share})
        assert problem.startswith("tune.huber: ")
    assert parse_recipe(with_sections(tune={"huber": 0.99})).tune.huber == 0.99


def test_bounds_go_through_json_and_an_editor_knows_them() -> None:
    recipe = parse_recipe(with_sections(data={"bounds": [1, 5]}, prompt={"labels": {"1": "poor", "5": "fine"}}))
    assert parse_recipe(json.loads(json.dumps(dump_recipe(recipe)))) == recipe
    parts = json_schema()["$defs"]
    [numbers] = [part for part in parts["Data"]["properties"]["bounds"]["anyOf"] if part.get("type") == "array"]
    assert numbers["items"]["type"] == "number"
    assert parts["Tune"]["properties"]["huber"]["exclusiveMaximum"] == 1
    assert "minilm-ridge" in json.dumps(parts["Evaluate"]["properties"]["baselines"])


@pytest.mark.parametrize(
    ("levels", "bounds", "labels", "said"),
    [
        (["1", "3", "5"], [1, 5], {}, ""),
        (["1", "3", "5"], None, {}, ""),
        (["0", "2.5", "10"], None, {"0": "none", "2.5": "half", "10": "all"}, ""),
        (["low", "5"], None, {}, f"'low' {LEVEL}"),
        (["1", "nan"], None, {}, f"'nan' {LEVEL}"),
        (["1", "inf"], None, {}, f"'inf' {LEVEL}"),
        (["1", "1e308"], None, {}, f"'1e308' {LEVEL}"),
        (["3"], None, {}, "one level leaves nothing to weigh (allowed: at least two)"),
        ([], None, {}, "one level leaves nothing to weigh (allowed: at least two)"),
        (["1", "1.0"], None, {}, "levels of a rating rise (allowed: the least first, each once)"),
        (["5", "1"], None, {}, "levels of a rating rise (allowed: the least first, each once)"),
        (["1", "5"], [0, 1234567.5], {}, "levels go from 1 to 5 (allowed: from 0 to 1234567.5, the bounds)"),
        (["1", "5"], None, {"1": "a", "2": "b"}, "levels go from 1 to 5 (allowed: from 1 to 2, the bounds)"),
    ],
)
def test_levels_of_a_bundle_are_those_that_its_recipe_makes(
    levels: list[str], bounds: list[float] | None, labels: dict[str, str], said: str
) -> None:
    assert kept_level_problems(levels, bounds, labels) == ([said] if said else [])
