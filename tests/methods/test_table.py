"""Every method that a recipe may name is in both tables, and answers all that the other rooms ask."""

import ast
from pathlib import Path
from typing import get_args

import pytest

import shopfit
from shopfit.methods import METHODS, Form
from shopfit.recipe.adapter_section import Adapter
from shopfit.recipe.methods import METHOD_RULES, Method

NAMES = get_args(Method)
ROOM = Path(shopfit.__file__).parent
ASKED_HERE = {ROOM / "recipe" / "methods.py", *(ROOM / "methods").glob("*.py")}


def test_the_tables_hold_every_method_in_the_order_of_the_recipe() -> None:
    assert tuple(METHODS) == tuple(METHOD_RULES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_method_says_its_size(name: str) -> None:
    method, settings = METHODS[name], Adapter.model_validate({"method": name})
    assert str(method.size(settings)) in method.size_in_words(settings)
    assert (method.slot_rank(settings) == 0) == (method.form is Form.PREFIX)
    assert 1 <= method.size(settings) <= method.rules.largest


def test_no_other_room_compares_the_name_of_a_method() -> None:
    found = []
    for path in sorted(set(ROOM.rglob("*.py")) - ASKED_HERE):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare | ast.MatchValue | ast.Dict):
                named = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                found += [f"{path}:{node.lineno}" for _ in named & set(NAMES)]
    assert found == []
