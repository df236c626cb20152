"""Every YAML under recipes/ that is not a merchant's description is a recipe that loads and says how it is run."""

import re
from pathlib import Path

import pytest

from shopfit.merchant.merchant import Merchant
from shopfit.recipe.loading import dump_recipe, load_recipe, parse_recipe
from shopfit.recipe.shipped import sample_folder, shipped_folder

FILES = sorted([*shipped_folder().rglob("*.yaml"), *shipped_folder().rglob("*.yml")])
RECIPES = [path for path in FILES if path.name != "merchant.yaml"]


def test_some_are_there() -> None:
    assert len(RECIPES) >= 7
    assert all(path.parent == shipped_folder() for path in RECIPES), "a recipe that no command would find"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.description
    assert parse_recipe(dump_recipe(recipe)) == recipe
    first = path.read_text(encoding="utf-8").splitlines()[0]
    command = re.fullmatch(r"# make adapter MERCHANT=(?P<merchant>[a-z0-9-]+) RECIPE=(?P<recipe>[a-z0-9-]+)", first)
    assert command, f"the first line of {path.name} is not the command that runs it: {first}"
    assert command["recipe"] == recipe.name
    folder = sample_folder(command["merchant"])
    assert folder is not None, f"there is no sample merchant {command['merchant']}"
    assert (folder / recipe.data.file).is_file()


@pytest.mark.parametrize("path", [path for path in FILES if path not in RECIPES], ids=lambda path: path.parent.name)
def test_merchant(path: Path) -> None:
    assert Merchant.open(path.parent).name == path.parent.name
