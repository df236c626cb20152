"""`shopfit recipe`: list, show, copy and check recipes."""

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.streams import neutral, write
from shopfit.cli.terminal import as_json, console, keep, only_prints, print_json


@click.group()
def command() -> None:
    """List, show, copy and check recipes."""


@command.command()
@as_json
@only_prints
def ls(as_json: bool) -> None:
    """List the shipped recipes."""
    from shopfit.recipe.shipped import shipped_recipes

    recipes = shipped_recipes()
    if as_json:
        print_json(recipes)
        return
    for recipe in recipes:
        console().entry(recipe.name, f"{recipe.task:<10}{recipe.description}", width=24)


@command.command()
@click.argument("name", type=PLACE)
@click.option(
    "--set", "overrides", type=TEXT, metavar="KEY=VALUE", multiple=True, help="Change a key first. Repeatable."
)
@as_json
@only_prints
def show(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a recipe with every default filled in. NAME is a shipped recipe or the path of a YAML file."""
    from shopfit.recipe.loading import dump_recipe, load_recipe

    document = dump_recipe(load_recipe(name, overrides=overrides))
    if as_json:
        print_json(document)
        return
    import yaml

    write(neutral(yaml.safe_dump(document, sort_keys=False, allow_unicode=True).rstrip()))


@command.command()
@click.argument("name", type=PLACE)
@click.argument("target", type=PLACE)
@as_json
def cp(name: str, target: str, as_json: bool) -> None:
    """Copy the shipped recipe NAME, comments included, to the new file TARGET."""
    from shopfit.recipe.shipped import copy_recipe
    from shopfit.settings import expanded

    copied = copy_recipe(name, expanded(target))
    keep(f"copied {name} to {copied}")
    if as_json:
        print_json({"copied": name, "to": copied})
    else:
        console().print(f"copied {name} to {copied}; check it with `shopfit recipe validate {copied}`")


@command.command()
@click.argument("names", nargs=-1, required=True, type=PLACE)
@click.option(
    "--set", "overrides", type=TEXT, metavar="KEY=VALUE", multiple=True, help="Change a key first. Repeatable."
)
@as_json
@only_prints
def validate(names: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Check recipes; every mistake is named. NAMES are shipped recipes or paths of YAML files."""
    from shopfit.recipe.loading import load_recipe

    valid = [load_recipe(name, overrides=overrides).name for name in names]
    if as_json:
        print_json({"valid": valid})
        return
    for name in valid:
        console().print(f"✓ {name}")


@command.command()
@only_prints
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from shopfit.recipe.editor import json_schema

    print_json(json_schema())
