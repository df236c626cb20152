"""What is said of a body that is not valid: each mistake once, at its place."""

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shopfit.serve.body_mistakes import mistakes


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    texts: str | list[str | Part] = "a"
    number: float = Field(1.0, ge=0)
    part: Part | None = None
    named: dict[str, Part] | None = None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"number": -1}, ["number: it is -1 (allowed: greater than or equal to 0)"]),
        ({"texts": 5}, ["texts: it is 5 (allowed: a valid string or a valid list)"]),
        ({"texts": ["a", 5]}, ["texts.1: it is 5 (allowed: a valid string or a valid dictionary)"]),
        ({"texts": [{"text": 5}]}, ["texts.0.text: it is 5 (allowed: a valid string)"]),
        ({"part": {}}, ["part.text: it is missing"]),
        ({"nubmer": 5}, ["nubmer: there is no such field; did you mean 'number'?"]),
        ({"part": {"text": "a", "txet": 1}}, ["part.txet: there is no such field; did you mean 'text'?"]),
        ({"texts": ["a", {"text": "a", "txt": 1}]}, ["texts.1.txt: there is no such field; did you mean 'text'?"]),
        ({"named": {"a": {"text": "a", "tex": 1}}}, ["named.a.tex: there is no such field; did you mean 'text'?"]),
        ({"part": {"text": "a", "number": 1}}, ["part.number: there is no such field"]),
        (
            {"number": "x" * 999, "part": 5},
            ["number: it is '" + "x" * 58 + "… (allowed: a valid number)", "part: it is 5"],
        ),
        ([], ["body: it is []"]),
    ],
)
def test_each_mistake_is_told_once_at_its_place(body: Any, told: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(body)
    errors = [{**error, "loc": ("body", *error["loc"])} for error in caught.value.errors()]
    found = [str(problem) for problem in mistakes(errors, body, Whole)]
    assert len(found) == len(told)
    assert all("did you mean" not in one or "did you mean" in wanted for one, wanted in zip(found, told, strict=True))
    assert all(one.startswith(wanted) for one, wanted in zip(found, told, strict=True)), found


def test_what_is_no_body() -> None:
    missing = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}
    broken = {
        "type": "json_invalid",
        "loc": ("body", 5),
        "msg": "JSON decode error",
        "ctx": {"error": "no"},
        "input": {},
    }
    header = {"type": "string_too_long", "loc": ("header", "x-shopfit-user"), "msg": "too long", "input": "a"}
    assert [str(one) for one in mistakes([missing, broken, header], None, None)] == [
        "body: it is missing",
        "body: it is not JSON: no",
        "x-shopfit-user: too long",
    ]


def test_a_body_that_is_not_said_to_be_json() -> None:
    unread = {
        "type": "model_attributes_type",
        "loc": ("body",),
        "msg": "Input should be a valid dictionary",
        "input": b"{}",
    }
    assert [str(one) for one in mistakes([unread], b"{}", None)] == [
        "body: it is not said to be JSON (allowed: the header `Content-Type: application/json`)"
    ]


def test_many_are_cut() -> None:
    errors = [{"type": "missing", "loc": ("body", f"n{number}"), "msg": "", "input": None} for number in range(9999)]
    assert len(mistakes(errors, {}, None)) == 50
