"""The recipes that come with shopfit, and the sample merchants beside them.

Reads only a recipe's first lines; `loading` checks whether it is valid.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from shopfit.errors import RecipeError
from shopfit.recipe.names import SLUG_RULE, is_slug
from shopfit.recipe.plain_yaml import read_file, read_text
from shopfit.recipe.suggestions import did_you_mean, shown

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class RecipeEntry:
    """One line of `shopfit recipe ls`."""

    name: str
    task: str
    description: str
    path: Path


def shipped_folder() -> Path:
    """The folder of the shipped recipes: inside an installed package, or `recipes/` of a checkout.

    Raises:
        RecipeError: if neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "shipped" / "recipes", package.parents[1] / "recipes"):
        if folder.is_dir():
            return folder
    raise RecipeError("this installation of shopfit has no recipes", next_step="install it again")


def shipped_recipes() -> list[RecipeEntry]:
    """The shipped recipes, by name."""
    return [_entry(path) for path in _recipes_in(shipped_folder())]


def sample_merchants() -> list[str]:
    """Names of the shipped sample merchants, sorted."""
    return sorted(path.parent.name for path in (shipped_folder() / "samples").glob("*/merchant.yaml"))


def sample_folder(name: str) -> Path | None:
    """The folder of a sample merchant, or None if there is none of that name."""
    return shipped_folder() / "samples" / name if name in sample_merchants() else None


def find_recipe(name: str, shelves: list[Path] | None = None) -> Path:
    """The file of the recipe `name`.

    Args:
        name: a recipe's name.
        shelves: folders to look in, in order; the shipped recipes by default.

    Raises:
        RecipeError: if no shelf holds it; names the nearest.
    """
    known: dict[str, Path] = {}
    for shelf in [shipped_folder()] if shelves is None else shelves:
        for path in _recipes_in(shelf):
            known.setdefault(path.stem, path)
    if name in known:
        return known[name]
    raise RecipeError(
        f"there is no recipe {shown(name)}{did_you_mean(name, known)}",
        next_step="list the recipes with `shopfit recipe ls`, or give the path of a .yaml file",
    )


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a shipped recipe, comments included, and give the copy its file's name.

    Args:
        name: a shipped recipe.
        target: a new .yaml file; its folders are made.

    Returns:
        The new file.

    Raises:
        RecipeError: if there is no such recipe, the target cannot be a recipe's name, or is already there.
    """
    source = find_recipe(name)
    if target.suffix not in SUFFIXES or not is_slug(target.stem):
        raise RecipeError(
            f"{target} cannot be a recipe's file", next_step=f"name it <name>.yaml; a name is {SLUG_RULE}"
        )
    text = source.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^name:[ \t]*[^\s#]+", lambda _: f"name: {_as_text(target.stem)}", text, count=1)
    text = re.sub(rf"(?m)^(#.*\bRECIPE=){re.escape(name)}\b", lambda found: found[1] + target.as_posix(), text)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with target.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RecipeError(f"{target} is already there", next_step="choose another name, or remove it first") from None
    return target


def _recipes_in(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("*") if path.suffix in SUFFIXES), key=lambda path: path.stem)


def _entry(path: Path) -> RecipeEntry:
    read, _ = read_file(path)
    document = read.document if isinstance(read.document, dict) else {}
    return RecipeEntry(path.stem, str(document.get("task", "")), str(document.get("description", "")), path)


def _as_text(name: str) -> str:
    """In quotes where YAML would take it for a number or a truth value."""
    return name if isinstance(read_text(name).document, str) else f'"{name}"'
