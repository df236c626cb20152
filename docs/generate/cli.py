"""The page of the command line, from its commands."""

import inspect
import re
from collections.abc import Iterator

import click

from docs.generate.markdown import code, document, fenced, sentence, table
from shopfit.cli.app import EXIT_STATUSES, shopfit
from shopfit.settings import VARIABLES

_OPENING = """
Here is every command with its arguments and options, and what a command returns. `--help` after any of them shows the
same.
"""
_BOUNDS = re.compile(r"\s*\[([^\]]*)\]$")


def page() -> str:
    """The page."""
    parts = [*_statuses(), *_variables()]
    for path, command, context in commands():
        parts += _command(path, command, context)
    return document("Command line", "`adapters/shopfit/cli/`", _OPENING, *parts)


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command and group below `shopfit`, each with its whole name."""
    yield from _below(shopfit, click.Context(shopfit, info_name="shopfit"), "shopfit")


def _below(group: click.Group, context: click.Context, path: str) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield f"{path} {name}", command, inner
        if isinstance(command, click.Group):
            yield from _below(command, inner, f"{path} {name}")


def _command(path: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"{'#' * (1 + path.count(' '))} {path}"
    text = inspect.cleandoc(command.help or "").replace("\b\n", "")
    yield text
    if isinstance(command, click.Group):
        return
    yield fenced(" ".join([path, *command.collect_usage_pieces(context)]))
    rows = [row for param in command.params if isinstance(param, click.Option) and (row := _option(param, context))]
    yield table(("option", "what it does", "allowed, default"), rows)


def _option(option: click.Option, context: click.Context) -> tuple[str, str, str] | None:
    if option.hidden or "--help" in option.opts:
        return None
    names, said = option.get_help_record(context) or ("", "")
    bounds = _BOUNDS.search(said)
    what = said[: bounds.start()] if bounds else said
    more = "any number of times; " if option.multiple else ""
    limits = re.sub(r"x>=(\S+)", r"\1 or more", re.sub(r"(\S+)<=x<=(\S+)", r"\1 to \2", bounds[1] if bounds else ""))
    return (
        code(names),
        sentence(what.replace("<", r"\<")),
        (more + ("**needed**; " if option.required else "") + limits).removesuffix("; "),
    )


def _statuses() -> Iterator[str]:
    yield "## Exit status"
    yield table(("status", "when"), [(code(status), sentence(when)) for status, when in EXIT_STATUSES.items()])


def _variables() -> Iterator[str]:
    yield "## Environment"
    yield table(("variable", "what it says"), [(code(name), sentence(what)) for name, what in VARIABLES.items()])
