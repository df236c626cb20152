"""From a YAML file and `--set` overrides to a checked recipe. Every mistake is reported, all at once."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shopfit.errors import Problem, RecipeError, ShopfitError
from shopfit.recipe.mistakes import Mistake, Where, explain
from shopfit.recipe.overrides import Overrides
from shopfit.recipe.plain_yaml import KeyPath, PlainYaml, dotted, read_file
from shopfit.recipe.schema import Recipe
from shopfit.recipe.section import Section
from shopfit.recipe.shipped import SUFFIXES, find_recipe
from shopfit.recipe.suggestions import did_you_mean, shown
from shopfit.settings import expanded


def load_recipe(source: str | Path, *, overrides: Sequence[str] = (), shelves: Sequence[Path] | None = None) -> Recipe:
    """Load and check a recipe.

    Args:
        source: the path of a YAML file (it ends in .yaml or .yml, or holds a `/`), or a recipe's name.
        overrides: `key.path=value` each; the value is YAML, and of two for one key the last one counts.
        shelves: folders in which a name is looked up; the shipped recipes by default.

    Raises:
        RecipeError: with every mistake in the file and the overrides, each with file, line, key and what is allowed.
    """
    path = _path_of(str(source), shelves)
    read, problems = read_file(path)
    changes = Overrides.parse(overrides)
    problems += changes.problems
    recipe: Recipe | None = None
    if read.readable:
        recipe, more = _check_file(path, read, changes)
        problems += more
    if problems or recipe is None:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise RecipeError(
            f"recipe {path} has {count}", problems=problems, next_step="correct what is named above and run it again"
        )
    return recipe


def parse_recipe(snapshot: Mapping[str, Any]) -> Recipe:
    """Check a recipe kept as data, such as the snapshot in a bundle.

    Raises:
        RecipeError: with every mistake.
    """
    recipe, mistakes = _validate(dict(snapshot), dotted)
    if recipe is None:
        raise RecipeError(
            f"the recipe snapshot {shown(snapshot.get('name'))} is not valid",
            problems=[mistake.problem for mistake in mistakes],
            next_step="train the adapter again with this version of shopfit",
        )
    return recipe


def dump_recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as data that JSON can hold and `parse_recipe` reads back, defaults included."""
    return recipe.model_dump(mode="json", by_alias=True)


def _path_of(source: str, shelves: Sequence[Path] | None) -> Path:
    if not (source.endswith(SUFFIXES) or "/" in source or "\\" in source):
        return find_recipe(source, None if shelves is None else list(shelves))
    try:
        source.encode()
        path = expanded(source)
        if path.is_file():
            return path
        neighbours = [near.name for near in path.parent.glob("*") if near.suffix in SUFFIXES]
        name, why = str(path), did_you_mean(path.name, neighbours)
    except OSError as error:
        name, why = shown(source), f": {error.strerror}"
    except ValueError:  # half of a character is in it
        name, why = shown(source), ": no file can have this name"
    except ShopfitError:
        name, why = shown(source), ": HOME is not set, or there is no such user"
    raise RecipeError(
        f"there is no recipe file {name}{why}",
        next_step="check the path, or take a shipped recipe by name: `shopfit recipe ls`",
    )


def _check_file(path: Path, read: PlainYaml, changes: Overrides) -> tuple[Recipe | None, list[Problem]]:
    document = read.document
    if document is None:
        return None, [Problem(str(path), "is empty", "a recipe; copy one with `shopfit recipe copy`")]
    if not isinstance(document, dict):
        return None, [Problem(str(path), f"is a {_kind(document)}", "keys with values, such as `name: my-recipe`")]
    document, problems = changes.apply(_with_empty_sections(document))

    def where(key: KeyPath) -> str:
        if changes.sets(key) or (key not in read.lines and changes.lead_through(key)):
            return f"--set {dotted(key)}"
        return f"{path}:{read.line(key)} {dotted(key)}".rstrip()

    recipe, mistakes = _validate(document, where)
    problems += [
        mistake.problem for mistake in mistakes if mistake.path not in read.unread or changes.sets(mistake.path)
    ]
    name = document.get("name")
    if isinstance(name, str) and name != path.stem and not any(mistake.path == ("name",) for mistake in mistakes):
        problems.append(Problem(where(("name",)), f"{shown(name)} is not the name of the file", path.stem))
    return recipe, problems


def _validate(document: dict[str, Any], where: Where) -> tuple[Recipe | None, list[Mistake]]:
    try:
        return Recipe.model_validate(document), []
    except ValidationError as error:
        mistakes = explain(error, Recipe, document, where)
    return None, mistakes + _across_keys(document, mistakes, where)


def _across_keys(document: dict[str, Any], found: list[Mistake], where: Where) -> list[Mistake]:
    """What does not fit together in the part of a document that is right.

    Pydantic compares keys only when each of them is valid, so the invalid ones are taken away. An error about one of
    those, or about a key that a misspelt one was meant to be, would be false: it is left out.
    """
    rest = _filled(_without(document, [mistake.path for mistake in found]))
    try:
        Recipe.model_validate(rest)
    except ValidationError as error:
        again = explain(error, Recipe, rest, where)
    else:
        return []
    suspect = {dotted(mistake.path) for mistake in found} | {key for mistake in found for key in mistake.meant}
    parents = {mistake.path[:length] for mistake in found for length in range(len(mistake.path) + 1)}
    return [mistake for mistake in again if suspect.isdisjoint(_about(mistake)) and not _above(mistake.path, parents)]


def _about(mistake: Mistake) -> set[str]:
    """Dotted paths of the keys that an error compares."""
    words = set(re.findall(r"[\w.]+", mistake.problem.what))
    return {dotted(mistake.path), *words, *(dotted((*mistake.path, word)) for word in words)}


def _above(path: KeyPath, parents: Collection[KeyPath]) -> bool:
    """Whether a value, deeper than a section, lost a part that was invalid."""
    return len(path) > 1 and path in parents


def _without(document: Any, paths: Sequence[KeyPath]) -> Any:
    here = {path[0] for path in paths if len(path) == 1 or (len(path) > 1 and isinstance(path[1], int))}
    if not isinstance(document, dict):
        return document
    below: dict[str | int, list[KeyPath]] = {}
    for path in paths:
        if len(path) > 1:
            below.setdefault(path[0], []).append(path[1:])
    return {key: _without(value, below.get(key, [])) for key, value in document.items() if key not in here}


def _filled(document: dict[str, Any]) -> dict[str, Any]:
    """With something in the required keys that no other key is compared with."""
    document = {"name": "x"} | document
    for section, key in (("data", "file"), ("prompt", "template")):
        if isinstance(known := document.get(section, {}), dict):
            document[section] = {key: "{x}"} | known
    return document


def _with_empty_sections(document: dict[str, Any]) -> dict[str, Any]:
    """A section whose lines are all commented out counts as absent, not as `null`."""
    empty = {key for key, value in document.items() if value is None and _is_section(key)}
    return {key: {} if key in empty else value for key, value in document.items()}


def _is_section(key: str) -> bool:
    field = Recipe.model_fields.get(key)
    return field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, Section)


def _kind(document: Any) -> str:
    return "list" if isinstance(document, list) else "single value"
