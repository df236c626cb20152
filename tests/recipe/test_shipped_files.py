from pathlib import Path

import pytest

from shopfit.errors import RecipeError
from shopfit.recipe.loading import load_recipe
from shopfit.recipe.shipped import (
    copy_recipe,
    find_recipe,
    sample_folder,
    sample_merchants,
    shipped_folder,
    shipped_recipes,
)


def test_the_list_agrees_with_the_files() -> None:
    entries = shipped_recipes()
    assert [entry.name for entry in entries] == sorted(path.stem for path in shipped_folder().glob("*.yaml"))
    for entry in entries:
        recipe = load_recipe(entry.path)
        assert (entry.name, entry.task, entry.description) == (recipe.name, recipe.task, recipe.description)


def test_samples() -> None:
    for name in sample_merchants():
        folder = sample_folder(name)
        assert folder is not None
        assert (folder / "merchant.yaml").is_file()
    assert sample_folder("../samples") is None
    assert sample_folder("no-such-shop") is None


def test_a_copy_keeps_comments_and_loads_under_its_own_name(tmp_path: Path) -> None:
    target = tmp_path / "new" / "mine.yaml"
    assert copy_recipe("review-sentiment", target) == target
    text = target.read_text()
    assert text.splitlines()[0] == f"# make adapter MERCHANT=crema RECIPE={target.as_posix()}"
    assert "# or adalora; prefix on a decoder" in text
    original, copy = load_recipe("review-sentiment"), load_recipe(target)
    assert copy == original.model_copy(update={"name": "mine"})


@pytest.mark.parametrize("stem", ["123", "1e5", "true", "null", "0x1f"])
def test_a_name_that_yaml_takes_for_something_else(tmp_path: Path, stem: str) -> None:
    assert load_recipe(copy_recipe("user-profile", tmp_path / f"{stem}.yaml")).name == stem


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    target.write_text("precious")
    with pytest.raises(RecipeError, match="already there"):
        copy_recipe("review-sentiment", target)
    assert target.read_text() == "precious"


@pytest.mark.parametrize("name", ["Mine.yaml", "mine.txt", "mine", "a b.yaml"])
def test_a_copy_needs_the_name_of_a_recipe(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match="cannot be a recipe's file"):
        copy_recipe("review-sentiment", tmp_path / name)
    assert not list(tmp_path.glob(f"*{name}"))


def test_unknown_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'user-profile'"):
        copy_recipe("user-profil", tmp_path / "x.yaml")
    with pytest.raises(RecipeError, match="recipe ls"):
        find_recipe("user-profile", [tmp_path])
