from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shopfit.recipe.mistakes import Mistake, explain
from shopfit.recipe.plain_yaml import dotted


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: Annotated[int, Field(gt=0, lt=9)] = 1
    words: dict[str, str] = {}
    kinds: list[Literal["near", "far"]] = []
    ready: bool = False


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    inner: Inner = Inner()
    also: Inner = Inner()
    label: str | None = Field(None, alias="tag", description="what is printed")

    @model_validator(mode="after")
    def _fit(self) -> "Outer":
        if self.inner.size == 8:
            raise ValueError("inner.size: 8 is odd (allowed: 1 (one), 7)\nplain words")
        return self


def explained(document: Any) -> list[Mistake]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(document)
    return explain(caught.value, Outer, document, lambda path: f"at {dotted(path)}")


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        ({"inner": {"size": 9}}, ["at inner.size: 9 is out of range (allowed: a whole number, above 0, below 9)"]),
        ({"inner": {"size": "x"}}, ["at inner.size: 'x' is not accepted (allowed: a whole number, above 0, below 9)"]),
        ({"inner": {"words": {"a": 1}}}, ["at inner.words.a: 1 is not text; write it in quotes (allowed: text)"]),
        (
            {"inner": {"kinds": ["neer"]}},
            ["at inner.kinds.0: 'neer' is not accepted; did you mean 'near'? (allowed: near, far)"],
        ),
        ({"inner": {"ready": 7}}, ["at inner.ready: 7 is not accepted (allowed: true, false)"]),
        ({"label": 1}, ["at label: is not a key (allowed: inner, also, tag)"]),
        (
            {"words": 1},
            ["at words: is not a key; did you mean 'inner.words' or 'also.words'? (allowed: inner, also, tag)"],
        ),
        (
            {"inner": {"sise": 1}},
            ["at inner.sise: is not a key; did you mean 'size'? (allowed: size, words, kinds, ready)"],
        ),
        ({"sise": 1}, ["at sise: is not a key; did you mean 'also.size'? (allowed: inner, also, tag)"]),
        ({"inner": {"size": 8}}, ["at inner.size: 8 is odd (allowed: 1 (one), 7)", "at : plain words"]),
        ([], ["at : [] is not accepted (allowed: keys with values below it)"]),
    ],
)
def test_in_plain_english(document: Any, lines: list[str]) -> None:
    assert [str(mistake.problem) for mistake in explained(document)] == lines


def test_unknown_keys_say_what_they_may_have_been() -> None:
    [mistake] = explained({"inner": {"sise": 1}})
    assert (mistake.path, mistake.unknown, mistake.meant) == (("inner", "sise"), True, ("inner.size",))
