"""`shopfit registry`: versions and aliases."""

from typing import TYPE_CHECKING

import click

from shopfit.cli.terminal import actor, as_json, console, print_json
from shopfit.errors import RegistryError

if TYPE_CHECKING:
    from shopfit.registry import Registry, Version


@click.group()
def command() -> None:
    """List, promote, roll back, verify and remove versions."""


def _open() -> "Registry":
    from shopfit.registry import Registry
    from shopfit.settings import Settings

    return Registry.open(Settings.from_environment())


def _line(version: "Version") -> str:
    aliases = " ".join(f"@{alias}" for alias in version.aliases)
    facts = f"{version.method:<8} {version.status:<8} {version.size / 1e6:6.1f} MB  {version.created:%Y-%m-%d %H:%M}"
    return f"[cyan]{version.name:<44}[/]{facts}  {aliases}"


@command.command()
@click.argument("merchant", required=False)
@click.argument("recipe", required=False)
@as_json
def ls(merchant: str | None, recipe: str | None, as_json: bool) -> None:
    """List versions: all, or those of MERCHANT, or of its RECIPE."""
    with _open() as registry:
        versions = registry.versions(merchant, recipe)
    if as_json:
        print_json(versions)
        return
    for version in versions:
        console().print(_line(version))
    if not versions:
        console().print("no versions yet; make one with `shopfit adapter MERCHANT RECIPE`")


@command.command()
@click.argument("reference")
@as_json
def show(reference: str, as_json: bool) -> None:
    """Show one version, and who changed what about its merchant and recipe."""
    with _open() as registry:
        version = registry.resolve(reference)
        about = f"{version.merchant}/{version.recipe}@"
        audit = [entry for entry in registry.audit(version.merchant) if entry.reference.startswith(about)]
    if as_json:
        print_json({"version": version, "audit": audit})
        return
    screen = console()
    screen.print(_line(version))
    for name, value in (
        ("reason", version.reason),
        ("base", f"{version.base_name}, fingerprint {version.base_fingerprint}"),
        ("rank", version.rank),
        ("digest", version.digest),
        ("metrics", ", ".join(f"{metric} {number:.3f}" for metric, number in version.metrics.items())),
    ):
        if value:
            screen.print(f"{name:>10}  {value}", markup=False)
    for entry in audit:
        screen.print(
            f"{entry.time:%Y-%m-%d %H:%M:%S}  {entry.actor}  {entry.action}  {entry.reference}  {entry.detail}",
            style="dim",
            markup=False,
        )


@command.command()
@click.argument("reference")
@click.option("--alias", default="production", show_default=True, help="The alias to move.")
@click.option("--force", is_flag=True, help="Promote a version even if the gate refused it.")
@as_json
def promote(reference: str, alias: str, force: bool, as_json: bool) -> None:
    """Let an alias name the version that REFERENCE names. @production keeps its old version as @previous."""
    with _open() as registry:
        version = registry.promote(reference, alias=alias, force=force, actor=actor())
    _done(version, f"{version.name} is now @{alias}", as_json)


@command.command()
@click.argument("adapter", metavar="MERCHANT/RECIPE")
@as_json
def rollback(adapter: str, as_json: bool) -> None:
    """Let @production and @previous change places."""
    with _open() as registry:
        version = registry.rollback(adapter, actor=actor())
    _done(version, f"{version.name} is @production again", as_json)


@command.command()
@click.argument("reference", required=False)
@as_json
def verify(reference: str | None, as_json: bool) -> None:
    """Re-hash the files of a version, or of every version."""
    with _open() as registry:
        broken = registry.verify(reference)
    if as_json:
        print_json(
            [{"version": version.name, "where": problem.where, "what": problem.what} for version, problem in broken]
        )
    elif not broken:
        console().print("[green]✓[/] every file is as it was published")
    if broken:
        from shopfit.errors import Problem

        problems = [Problem(f"{version.name} {problem.where}", problem.what) for version, problem in broken]
        raise RegistryError(
            "files in the registry are not as they were published",
            problems=problems,
            next_step="roll back or promote another version, remove the broken ones, and publish again",
        )


@command.command()
@click.argument("reference")
@as_json
def rm(reference: str, as_json: bool) -> None:
    """Remove a version that no alias names. Its number is not given again."""
    with _open() as registry:
        version = registry.resolve(reference)
        registry.remove(reference, actor=actor())
    _done(version, f"removed {version.name}", as_json)


def _done(version: "Version", line: str, as_json: bool) -> None:
    if as_json:
        print_json(version)
    else:
        console().print(line)
