"""`shopfit recipe`: list, show, copy and check recipes."""

from pathlib import Path

import click

from shopfit.cli.terminal import as_json, console, print_json


@click.group()
def command() -> None:
    """List, show, copy and check recipes."""


@command.command()
@as_json
def ls(as_json: bool) -> None:
    """List the shipped recipes."""
    from shopfit.recipe.shelf import shipped_recipes

    recipes = shipped_recipes()
    if as_json:
        print_json(recipes)
        return
    for recipe in recipes:
        console().print(f"[cyan]{recipe.name:<24}[/]{recipe.task:<10}{recipe.description}")


@command.command()
@click.argument("name")
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a key first. Repeatable.")
@as_json
def show(name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print a recipe with every default filled in. NAME is a shipped recipe or the path of a YAML file."""
    from shopfit.recipe.loading import dump_recipe, load_recipe

    document = dump_recipe(load_recipe(name, overrides=overrides))
    if as_json:
        print_json(document)
        return
    import yaml

    click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)


@command.command()
@click.argument("name")
@click.argument("target", type=click.Path(path_type=Path))
@as_json
def cp(name: str, target: Path, as_json: bool) -> None:
    """Copy the shipped recipe NAME, comments included, to the new file TARGET."""
    from shopfit.recipe.shelf import copy_recipe

    copied = copy_recipe(name, target)
    if as_json:
        print_json({"copied": name, "to": copied})
    else:
        console().print(f"copied {name} to {copied}; check it with `shopfit recipe validate {copied}`")


@command.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a key first. Repeatable.")
@as_json
def validate(names: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Check recipes; every mistake is named. NAMES are shipped recipes or paths of YAML files."""
    from shopfit.recipe.loading import load_recipe

    valid = [load_recipe(name, overrides=overrides).name for name in names]
    if as_json:
        print_json({"valid": valid})
        return
    for name in valid:
        console().print(f"[green]✓[/] {name}")


@command.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from shopfit.recipe.editor import json_schema

    print_json(json_schema())
