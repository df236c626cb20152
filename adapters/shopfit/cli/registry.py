"""`shopfit registry`: versions and aliases."""

import json
from typing import TYPE_CHECKING

import click

from shopfit.cli.terminal import actor, as_json, console, counted, keep, only_prints, open_registry, print_json, size
from shopfit.errors import RegistryError, UnknownReference

if TYPE_CHECKING:
    from shopfit.registry import AuditEntry, Reference, Registry, Version


@click.group()
def command() -> None:
    """List, promote, roll back, verify and remove versions; collect garbage."""


def _tell(version: "Version") -> None:
    aliases = " ".join(f"@{alias}" for alias in version.aliases)
    facts = f"{version.method:<8} {version.status:<8} {version.size / 1e6:6.1f} MB  {version.created:%Y-%m-%d %H:%M}"
    console().entry(version.name, f"{facts}  {aliases}", width=44)


@command.command()
@click.argument("merchant", required=False)
@click.argument("recipe", required=False)
@as_json
@only_prints
def ls(merchant: str | None, recipe: str | None, as_json: bool) -> None:
    """List versions: all, or those of MERCHANT, or of its RECIPE."""
    with open_registry() as registry:
        versions = registry.versions(merchant, recipe)
        nothing = "" if versions or as_json else _no_versions(registry, merchant, recipe)
    if as_json:
        print_json(versions)
        return
    for version in versions:
        _tell(version)
    if nothing:
        console().print(nothing)


def _no_versions(registry: "Registry", merchant: str | None, recipe: str | None) -> str:
    """Why a list is empty."""
    from shopfit.recipe.suggestions import did_you_mean, listed

    if merchant is None:
        return "no versions yet; make one with `shopfit adapter MERCHANT RECIPE`"
    recipes = sorted({version.recipe for version in registry.versions(merchant)})
    if recipe is not None and recipes:
        hint = did_you_mean(recipe, recipes) or f"; there is {listed(recipes)}"
        return f"merchant {merchant!r} has no versions of a recipe {recipe!r}{hint}"
    audit = registry.audit(merchant)
    if not audit:
        return _unknown(registry, merchant)
    if not any(one.action.startswith(("publish", "erase")) for one in audit):
        return f"merchant {merchant!r} has no versions yet, only API keys: `shopfit key ls {merchant}` lists them"
    erased = registry.receipts(merchant)
    gone = f"it was erased {erased[-1].time:%Y-%m-%d %H:%M:%S} by {erased[-1].actor}" if erased else "all were removed"
    return f"merchant {merchant!r} has no versions any more: {gone}; `shopfit registry audit {merchant}` tells more"


def _unknown(registry: "Registry", merchant: str) -> str:
    """That nothing was ever registered of a merchant."""
    from shopfit.recipe.suggestions import did_you_mean

    names = sorted({one.reference.partition("/")[0] for one in registry.audit()} - {""})
    hint = did_you_mean(merchant, names) or "; `shopfit registry ls` shows every name"
    return f"there is no merchant {merchant!r} in the registry, and there never was{hint if names else ''}"


@command.command()
@click.argument("reference")
@as_json
@only_prints
def show(reference: str, as_json: bool) -> None:
    """Show one version, and who changed what about its merchant and recipe."""
    with open_registry() as registry:
        version = registry.resolve(reference)
        about = f"{version.merchant}/{version.recipe}@"
        audit = [one for one in registry.audit(version.merchant) if one.reference.startswith(about)]
    if as_json:
        print_json({"version": version, "audit": audit})
        return
    screen = console()
    _tell(version)
    for name, value in (
        ("reason", version.reason),
        ("base", f"{version.base_name}, fingerprint {version.base_fingerprint}"),
        ("rank", version.rank),
        ("digest", version.digest),
        ("metrics", ", ".join(f"{metric} {_number(value)}" for metric, value in version.metrics.items())),
    ):
        if value:
            screen.row(name, value)
    _tell_audit(audit)


def _number(value: object) -> str:
    """A metric; older releases kept whatever a manifest said."""
    return f"{value:.3f}" if isinstance(value, int | float) else str(value)


def _tell_audit(entries: "list[AuditEntry]") -> None:
    screen = console()
    for one in entries:
        line = f"{one.time:%Y-%m-%d %H:%M:%S}  {one.actor}  {one.action}  {one.reference or 'platform'}  {_detail(one)}"
        screen.print(line, style="dim")


def _detail(entry: "AuditEntry") -> str:
    """What changed, in words; the audit keeps what is erased as JSON."""
    if not entry.action.startswith("erase"):
        return entry.detail
    from shopfit.recipe.suggestions import listed

    try:
        erased = json.loads(entry.detail)
        named = f" ({listed(erased['versions'])})" if erased["versions"] else ""
        parts = [
            counted(len(erased["versions"]), "version") + named,
            counted(len(erased["aliases"]), "alias", "aliases"),
            *([counted(erased["keys"], "API key")] if erased.get("keys") else []),
            *(f"{count} of {what}" for what, count in erased.get("rows", {}).items()),
        ]
        if entry.action == "erase":
            spaces = [erased["blobs"], erased["orphans"], *erased["local"].values()]
            files, space = (sum(one[what] for one in spaces) for what in ("count", "bytes"))
            return f"erased: {', '.join(parts)}; {counted(files, 'file')}, {size(space)}"
        return f"to be erased: {', '.join(parts)}; {counted(len(erased['blobs']), 'file')}"
    except (ValueError, KeyError, TypeError, AttributeError):  # of another release
        return entry.detail


@command.command()
@click.argument("merchant", required=False)
@as_json
@only_prints
def audit(merchant: str | None, as_json: bool) -> None:
    """Show who changed what, oldest first: of MERCHANT, also of one that was erased, or of all."""
    with open_registry() as registry:
        found = registry.audit(merchant)
        nothing = "" if found or as_json else _no_changes(registry, merchant)
    if as_json:
        print_json(found)
        return
    _tell_audit(found)
    if nothing:
        console().print(nothing)


def _no_changes(registry: "Registry", merchant: str | None) -> str:
    return "nothing was registered yet" if merchant is None else _unknown(registry, merchant)


@command.command()
@click.argument("reference")
@click.option("--alias", default="production", show_default=True, help="The alias to move.")
@click.option("--force", is_flag=True, help="Promote a version even if the gate refused it.")
@as_json
def promote(reference: str, alias: str, force: bool, as_json: bool) -> None:
    """Let an alias name the version that REFERENCE names. @production keeps its old version as @previous."""
    with open_registry() as registry:
        version = registry.promote(reference, alias=alias, force=force, actor=actor())
    _done(version, f"{version.name} is now @{alias}", as_json)


@command.command()
@click.argument("adapter", metavar="MERCHANT/RECIPE")
@as_json
def rollback(adapter: str, as_json: bool) -> None:
    """Let @production and @previous change places."""
    with open_registry() as registry:
        version = registry.rollback(adapter, actor=actor())
    _done(version, f"{version.name} is @production again", as_json)


@command.command()
@click.argument("reference", required=False)
@as_json
@only_prints
def verify(reference: str | None, as_json: bool) -> None:
    """Re-hash the files of a version, or of every version."""
    with open_registry() as registry:
        broken = registry.verify(reference)
    if as_json:
        print_json(
            [{"version": version.name, "where": problem.where, "what": problem.what} for version, problem in broken]
        )
    elif not broken:
        console().print("✓ every file is as it was published")
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
    with open_registry() as registry:
        version = registry.resolve(reference)
        registry.remove(reference, actor=actor())
    _done(version, f"removed {version.name}", as_json)


@command.command()
@click.argument("reference")
@as_json
def unalias(reference: str, as_json: bool) -> None:
    """Take the alias REFERENCE away, such as acme/review-sentiment@candidate. What it named stays."""
    from shopfit.registry import Reference

    parsed = Reference.parse(reference)
    with open_registry() as registry:
        if "@" not in reference:
            raise _no_alias(registry, parsed)
        version = registry.unalias(parsed, actor=actor())
    left = " ".join(f"@{alias}" for alias in version.aliases)
    _done(version, f"{version.name} has {left or 'no alias'} now", as_json)


def _no_alias(registry: "Registry", adapter: "Reference") -> UnknownReference:
    """That it must be said which alias is to go: @production is never taken away unnamed.

    Raises:
        UnknownReference: if there is no such adapter; it tells what there is instead.
    """
    named = f"{adapter.merchant}/{adapter.recipe}"
    versions = registry.versions(adapter.merchant, adapter.recipe)
    if not versions:
        registry.resolve(adapter)
    commands = [f"`shopfit registry unalias {named}@{alias}`" for version in versions for alias in version.aliases]
    return UnknownReference(
        f"{named} names no alias",
        next_step=f"say which one is to go: {' or '.join(commands)}" if commands else f"leave it: {named} has no alias",
    )


@command.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option(
    "--grace",
    type=click.IntRange(0, 24 * 365),
    default=24,
    show_default=True,
    metavar="HOURS",
    help="Keep younger blobs: their version may be about to be published.",
)
@as_json
def gc(dry_run: bool, grace: int, as_json: bool) -> None:
    """Remove what nothing names: blobs, unfinished writes, versions in the cache, leavings of killed processes.

    The blob store must belong to this registry alone. The cache and the leavings are this machine's.
    """
    from datetime import timedelta

    from shopfit.registry.garbage import collect
    from shopfit.settings import Settings

    settings = Settings.from_environment()
    with open_registry() as registry:
        found = collect(registry, settings, grace=timedelta(hours=grace), dry_run=dry_run)
    keep("garbage was looked for" if dry_run else "garbage is collected")
    if as_json:
        print_json({"dry_run": dry_run, "garbage": found})
        return
    would = "would free" if dry_run else "freed"
    for name, space, noun, what in (
        ("blobs", found.blobs, "file", "no version names"),
        ("cache", found.cache, "version", "the registry no longer has"),
        ("leavings", found.leavings, "folder", "killed processes left"),
    ):
        console().row(name, f"{would} {size(space.bytes)}: {counted(space.count, noun)} that {what}")


def _done(version: "Version", line: str, as_json: bool) -> None:
    keep(line)
    if as_json:
        print_json(version)
    else:
        console().print(line)
