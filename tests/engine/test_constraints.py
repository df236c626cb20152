"""Constrained answers are JSON of the schema, or one of the texts, whatever the model would rather say."""

import json
from typing import Any

import pytest

from shopfit.base.load import Base
from shopfit.engine.constraints import Constraint, Constraints, allow
from shopfit.errors import RequestError

SCHEMA = {
    "type": "object",
    "properties": {
        "level": {"enum": ["beginner", "expert"]},
        "interests": {"type": "array", "items": {"enum": ["nature", "crime"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["level", "interests"],
    "additionalProperties": False,
}


@pytest.fixture
def constraints(base: Base) -> Constraints:
    return Constraints(base.tokenizer, base.model.config.vocab_size)


def spoken(base: Base, constraint: Constraint, seed: int) -> str:
    """What a model without any sense says under a constraint."""
    import torch

    torch.manual_seed(seed)
    tokens: list[int] = []
    while not constraint.complete and len(tokens) < 400:
        logits = torch.randn(1, base.model.config.vocab_size)
        allow(logits, [constraint])
        token = int(logits.argmax())
        if token == base.tokenizer.eos_token_id:
            break
        constraint.add(token)
        tokens.append(token)
    text: str = base.tokenizer.decode(tokens)
    return text


@pytest.mark.parametrize("seed", range(5))
def test_json_follows_the_schema(base: Base, constraints: Constraints, seed: int) -> None:
    text = spoken(base, constraints.json(SCHEMA, (" ", "")), seed)
    value = json.loads(text)
    assert text == " " + json.dumps(value)  # on one line, as training data is written
    assert value["level"] in {"beginner", "expert"}
    assert set(value["interests"]) <= {"nature", "crime"}


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_is_one_of_the_texts_to_the_letter(base: Base, constraints: Constraints, seed: int) -> None:
    titles = ['Zelt "Ridge" 2', "Daunen-Schlafsack größe L", "back\\slash", "Ridge 2 tent", "Ridge 2 tent XL"]
    assert spoken(base, constraints.choice(titles), seed) in titles


def test_rows_without_a_constraint_stay_as_they_are(constraints: Constraints, base: Base) -> None:
    import torch

    logits = torch.randn(3, base.model.config.vocab_size)
    before = logits.clone()
    allow(logits, [None, constraints.choice(["x"]), None])
    assert torch.equal(logits[[0, 2]], before[[0, 2]])
    assert torch.isinf(logits[1]).sum() > 300


@pytest.mark.parametrize("schema", [{"type": "nonsense"}, {"$ref": "https://example.org/schema.json"}])
def test_a_schema_that_cannot_be_used_is_refused(constraints: Constraints, schema: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="JSON schema cannot be used"):
        constraints.json(schema)


ITSELF = {"type": "array", "items": {"$ref": "#"}, "minItems": 1}
IN_A_CIRCLE = {
    "$defs": {
        "a": {"type": "array", "items": {"$ref": "#/$defs/b"}, "minItems": 1},
        "b": {"type": "object", "properties": {"x/y": {"$ref": "#/$defs/a"}}, "required": ["x/y"]},
    },
    "$ref": "#/$defs/a",
}


@pytest.mark.parametrize(
    "schema",
    [
        ITSELF,
        IN_A_CIRCLE,
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"], "additionalProperties": False},
        {"anyOf": [ITSELF, {"type": "array", "items": {"$ref": "#"}, "minItems": 2}]},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"$ref": "#"}], "minItems": 2, "items": False},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"enum": []},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "string", "minLength": 5, "maxLength": 3},
    ],
)
def test_a_schema_that_nothing_follows_is_refused(constraints: Constraints, schema: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="JSON schema cannot be used"):
        constraints.json(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False},
        {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#"}, "minItems": 1}]},
        {"$defs": {"leaf": {"const": 1}}, "type": "array", "items": {"$ref": "#/$defs/leaf"}, "minItems": 2},
    ],
)
def test_a_schema_that_may_hold_itself_is_taken(constraints: Constraints, schema: dict[str, Any]) -> None:
    assert constraints.json(schema)


def test_a_schema_has_a_largest_size(constraints: Constraints) -> None:
    schema = {"type": "object", "properties": {f"p{number}": {"type": "integer"} for number in range(5000)}}
    with pytest.raises(RequestError, match="characters"):
        constraints.json(schema)


def test_an_answer_that_cannot_go_on_is_an_error(base: Base, constraints: Constraints) -> None:
    constraint = constraints.choice(["ab"])
    with pytest.raises(RequestError, match="no answer can follow"):
        constraint.add(base.tokenizer("zzz")["input_ids"][0])
    with pytest.raises(RequestError, match="before it is complete"):
        constraints.choice(["ab"]).end()


def test_nothing_to_choose_is_refused(constraints: Constraints) -> None:
    with pytest.raises(RequestError, match="nothing to choose"):
        constraints.choice([])


def test_a_state_belongs_to_one_answer(base: Base, constraints: Constraints) -> None:
    one, two = constraints.choice(["ab"]), constraints.choice(["ab"])
    assert spoken(base, one, 0) == "ab"
    assert not two.complete
    assert spoken(base, two, 1) == "ab"
