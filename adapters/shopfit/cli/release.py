"""`shopfit release`: versions that get a part of the traffic beside what is in production."""

from typing import TYPE_CHECKING

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import actor, as_json, console, keep, only_prints, open_registry, print_json
from shopfit.errors import RegistryError

if TYPE_CHECKING:
    from shopfit.registry import Release
    from shopfit.registry.serving import ReleaseKind

_share_option = click.option(
    "--share", type=TEXT, required=True, metavar="PART", help="How large the part is: 0.1 or 10%, at most 1 or 100%."
)


@click.group()
def command() -> None:
    """Start, list and end canaries and shadows."""


@command.command()
@click.argument("reference", type=TEXT)
@_share_option
@as_json
def canary(reference: str, share: str, as_json: bool) -> None:
    """Let the version that REFERENCE names answer a part of the users, the same ones each time.

    It takes the place of the adapter's canary, if there is one. Promoting it ends it.
    """
    _start(reference, "canary", share, as_json)


@command.command()
@click.argument("reference", type=TEXT)
@_share_option
@as_json
def shadow(reference: str, share: str, as_json: bool) -> None:
    """Ask the version that REFERENCE names a part of the requests, too, and count where it disagrees.

    Its answers reach nobody. It takes the place of the adapter's shadow, if there is one. Promoting it ends it.
    """
    _start(reference, "shadow", share, as_json)


def _start(reference: str, kind: "ReleaseKind", share: str, as_json: bool) -> None:
    with open_registry() as registry:
        release = registry.start_release(reference, kind=kind, share=_part(share), actor=actor())
    _done(release, f"{release.name} is the {_facts(release)} now", as_json)


@command.command()
@click.argument("adapter", type=TEXT, metavar="MERCHANT/RECIPE")
@click.argument("kind", type=click.Choice(["canary", "shadow"]))
@as_json
def end(adapter: str, kind: "ReleaseKind", as_json: bool) -> None:
    """Take the traffic of an adapter's canary or shadow back. The version stays."""
    with open_registry() as registry:
        release = registry.end_release(adapter, kind=kind, actor=actor())
    _done(release, f"{release.name} is the {kind} no more", as_json)


@command.command()
@click.argument("merchant", type=TEXT, required=False)
@as_json
@only_prints
def ls(merchant: str | None, as_json: bool) -> None:
    """List canaries and shadows, of MERCHANT or all."""
    with open_registry() as registry:
        releases = registry.releases(merchant)
    if as_json:
        print_json(releases)
        return
    for release in releases:
        console().entry(release.name, f"{_facts(release)}  digest {release.digest[:12]}", width=44)
    if not releases:
        of = "" if merchant is None else f" of {merchant}"
        console().print(f"no releases{of}; start one with `shopfit release canary REFERENCE --share 10%`")


def _part(text: str) -> float:
    """A part as users write it.

    Raises:
        RegistryError: if it is no number.
    """
    number = text.strip()
    try:
        return float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError:
        raise RegistryError(
            f"--share is {text[:80]!a} (allowed: above 0, at most 1, or above 0%, at most 100%)",
            next_step="give the part, such as --share 10%",
        ) from None


def _facts(release: "Release") -> str:
    return f"{release.kind} for {100 * release.share:.4g}% of the {'users' if release.kind == 'canary' else 'requests'}"


def _done(release: "Release", line: str, as_json: bool) -> None:
    keep(line)
    if as_json:
        print_json(release)
    else:
        console().print(line)
