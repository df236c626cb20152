import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shopfit.evaluation import GeneratePredictions, measure
from shopfit.tasks.text_similarity import field_counts, is_exact, parse_object, token_f1

NAMES = ["valid_json", "field_f1", "exact_match", "token_f1"]
GOLD = {"interests": ["espresso", "beans"], "level": "expert", "budget": "high"}

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("output", "counts"),
    [
        (GOLD, (4, 0, 0)),
        (GOLD | {"interests": ["beans", "espresso", "beans"]}, (4, 0, 0)),  # a set: order and repeats say nothing
        (GOLD | {"level": "beginner"}, (3, 1, 1)),  # one too many, one missing
        (GOLD | {"interests": ["beans", "filter"]}, (3, 1, 1)),
        (GOLD | {"interests": []}, (2, 1, 2)),
        (GOLD | {"interests": "espresso"}, (3, 0, 1)),
        (GOLD | {"city": "Lyon"}, (4, 1, 0)),
        ({"level": "expert"}, (1, 0, 3)),
        ({}, (0, 0, 4)),
        ("no JSON", (0, 0, 4)),
    ],
)
def test_fields_by_hand(output: Any, counts: tuple[int, int, int]) -> None:
    text = output if isinstance(output, str) else json.dumps(output)
    assert field_counts(text, json.dumps(GOLD)) == counts


@pytest.mark.parametrize(
    ("output", "gold", "counts"),
    [
        ({"n": 1.0}, {"n": 1}, (1, 0, 0)),
        ({"n": True}, {"n": 1}, (0, 1, 1)),
        ({"n": "1"}, {"n": 1}, (0, 1, 1)),
        ({"n": None}, {"n": None}, (1, 0, 0)),
        ({"n": []}, {"n": []}, (1, 0, 0)),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, (1, 1, 1)),
        ({"a": [{"x": 1, "y": 2}]}, {"a": [{"y": 2, "x": 1}]}, (1, 0, 0)),
    ],
)
def test_values_are_equal_as_json(output: Any, gold: Any, counts: tuple[int, int, int]) -> None:
    assert field_counts(json.dumps(output), json.dumps(gold)) == counts


def test_field_f1_is_micro() -> None:
    answers = GeneratePredictions((json.dumps(GOLD), "?"), (GOLD, {"level": "beginner"}))
    assert measure(answers, ["field_f1"])["field_f1"] == pytest.approx(8 / (8 + 0 + 1))


@pytest.mark.parametrize("text", ["", "[1]", '"a"', "{'a': 1}", '{"a": 1} and more', '{"a": NaN}', "{", "[" * 100_000])
def test_what_is_no_json_object(text: str) -> None:
    assert parse_object(text) is None


def test_white_space_around_an_object_does_no_harm() -> None:
    assert parse_object('\n {"a": 1}\n') == {"a": 1}


def test_exact_match_of_texts_and_objects() -> None:
    assert is_exact("The  Espresso, please!", "espresso please")
    assert not is_exact("espresso", "espresso please")
    assert is_exact('{"b":2,"a":[1.0]}', '{"a": [1], "b": 2}')
    assert not is_exact('{"a": [1, 1], "b": 2}', '{"a": [1], "b": 2}')
    assert not is_exact("a 1 b 2", '{"a": [1], "b": 2}')


def test_token_f1_by_hand() -> None:
    assert token_f1("a cheap grinder for espresso", "the espresso grinder") == pytest.approx(2 * 2 / (4 + 2))
    assert token_f1("tea tea", "tea") == pytest.approx(2 / 3)
    assert token_f1("", "tea") == 0
    assert token_f1("the", "") == 1
    assert token_f1('{"level":"expert","b":["x","y"]}', '{"level": "expert", "b": ["x", "y"]}') == 1


def test_texts_have_no_fields() -> None:
    found = measure(GeneratePredictions(("red", "red tent"), ("red", "tent")), NAMES)
    assert math.isnan(found.pop("field_f1"))
    assert found == {"valid_json": 0, "exact_match": 0.5, "token_f1": pytest.approx((1 + 2 / 3) / 2)}


@settings(max_examples=40)
@given(st.dictionaries(st.text(), values, min_size=1, max_size=4))
def test_an_object_matches_itself_however_it_is_written(gold: dict[str, Any]) -> None:
    written = json.dumps(dict(reversed(gold.items())), indent=1, ensure_ascii=True)
    assert measure(GeneratePredictions((written,), (gold,)), ["valid_json", "field_f1", "exact_match"]) == {
        "valid_json": 1,
        "field_f1": 1,
        "exact_match": 1,
    }


@given(st.text(), st.text())
def test_token_f1_is_a_share_and_has_no_direction(first: str, second: str) -> None:
    assert 0 <= token_f1(first, second) <= 1
    assert token_f1(first, second) == pytest.approx(token_f1(second, first))
