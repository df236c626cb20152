"""What is printed as JSON, and what processes send each other, is made in one place."""

import json
import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from types import MappingProxyType

import numpy as np
import pytest
from pydantic import BaseModel, Field

from shopfit.documents import document


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    numbers: tuple[float, ...]


class Model(BaseModel):
    value: float = Field(alias="the value")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (math.inf, None),
        (math.nan, None),
        ("ünïcode \ud800", "ünïcode \ud800"),
        (Part("a", (1.0, math.nan)), {"name": "a", "numbers": [1.0, None]}),
        (Model.model_validate({"the value": math.nan}), {"the value": None}),
        (MappingProxyType({1: [Part("b", ())]}), {"1": [{"name": "b", "numbers": []}]}),
        (OrderedDict(a=(1, 2)), {"a": [1, 2]}),
        (frozenset({"b", "a"}), ["a", "b"]),
        (datetime(2026, 11, 27, 12, tzinfo=UTC), "2026-11-27T12:00:00+00:00"),
        (PurePosixPath("/a/b"), "/a/b"),
        (np.float32(0.5), 0.5),
        (np.float64(0.25), 0.25),
        (np.float32("nan"), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, np.inf]]), [[1.0, None]]),
    ],
)
def test_a_value_is_plain_json(value: object, plain: object) -> None:
    made = document(value)
    assert made == plain
    assert type(made) is type(plain)
    assert json.loads(json.dumps(made, allow_nan=False)) == plain


@pytest.mark.parametrize("value", [object(), b"bytes", [object()], {"a": {1, "b"}}])
def test_what_has_no_form_in_json_is_a_mistake(value: object) -> None:
    with pytest.raises(TypeError):
        document(value)
