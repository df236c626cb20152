"""Every command line in deploy/ and in the docs is one that there is."""

import re
import shlex

import click
import pytest
from tests.deploy.manifests import ROOT, compose, containers, deployment, instructions

from shopfit.cli.app import shopfit

OPERATED = ("canary-and-roll-back", "deploy-on-kubernetes", "deploy-with-docker", "handle-incidents")


def in_pages() -> list[str]:
    pages = {page.stem: page.read_text() for page in sorted((ROOT / "docs").rglob("*.md"))}
    lines = [
        line.partition("  #")[0].strip()
        for text in pages.values()
        for line in text.splitlines()
        if line.startswith("    ")
    ]
    quoted = [quote for page in OPERATED for quote in re.findall(r"`(shopfit [^`\s]+ [^`]+)`", pages[page])]
    found = [re.fullmatch(r"(?:docker .*(?:exec|run) .*)?shopfit (.+)", line) for line in [*lines, *quoted]]
    return [f"shopfit {one[1]}" for one in found if one and " -p " not in one[0]]


def in_files() -> list[str]:
    image = dict(instructions("Dockerfile"))["CMD"]
    lines = [
        shlex.split(image.strip("[]").replace(",", " ")),
        compose()["gateway"]["command"],
        containers(deployment("gateway"))[0]["args"],
    ]
    return [shlex.join(["shopfit", *line]) for line in lines]


LINES = [*in_pages(), *in_files()]


def test_there_are_some() -> None:
    assert len(LINES) > 20
    assert len({line.split()[1] for line in LINES}) >= 6


@pytest.mark.parametrize("line", LINES)
def test_it_is_understood(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = shopfit
    context = click.Context(command, info_name="shopfit")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        context = click.Context(command, info_name=name, parent=context)
    with command.make_context(context.info_name, list(words), parent=context.parent):
        pass  # it raises what click says of an option, a choice or an argument that there is not
