"""`shopfit starter`: adapters that others start from."""

from pathlib import Path

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.terminal import actor, announce, as_json, check_home, console, keep, only_prints, print_json
from shopfit.libraries import quiet, share_cores


@click.group(short_help="Fit and list starters: adapters that others start from.")
def command() -> None:
    """Adapters trained over merchants that share, for new merchants to start from."""


@command.command()
@click.argument("recipe", type=PLACE)
@click.option(
    "--from",
    "folders",
    multiple=True,
    required=True,
    metavar="DONOR",
    type=PLACE,
    help="A merchant whose merchant.yaml says `share: true`: its folder, or a sample merchant's name. Repeatable.",
)
@click.option("--set", "overrides", type=TEXT, multiple=True, metavar="KEY=VALUE", help="Override a key; repeatable.")
@as_json
def fit(recipe: str, folders: tuple[str, ...], overrides: tuple[str, ...], as_json: bool) -> None:
    """Train one adapter of RECIPE over several merchants, and register it as house/RECIPE."""
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    check_home()
    share_cores()
    quiet()
    from shopfit.cli.adapter import Bar
    from shopfit.settings import Settings
    from shopfit.starter import fit_starter

    screen = console(to_stderr=as_json)

    with Bar(screen) as bar:
        done = fit_starter(
            [_folder(name) for name in folders],
            loaded,
            settings=Settings.from_environment(),
            actor=actor(),
            reporter=announce(screen),
            callback=bar,
        )
    if done is None:
        return
    keep(f"{done.version.name} is registered" + (", and is @production" if done.promoted else ""))
    if as_json:
        print_json(
            {
                "version": done.version,
                "promoted": done.promoted,
                "candidate": done.candidate,
                "metric": done.metric,
                "donors": done.reached,
            }
        )
        return
    screen.print()
    for donor, (before, after) in done.reached.items():
        screen.print(f"{donor:>24}  {done.metric}: base {before:.3f}, starter {after:.3f}")
    state = "promoted to @production" if done.promoted else "registered as refused"
    state = "registered as @candidate, its gain is not proven" if done.candidate else state
    screen.print()
    screen.row("version", f"{done.version.name}, {state}, in {done.seconds:.0f} s")
    if done.promoted:
        screen.row("next", f"new merchants start from it: shopfit adapter MERCHANT {done.version.recipe}")
    elif done.candidate:
        screen.row("next", f"promote it for new merchants to start from: shopfit registry promote {done.version.name}")


def _folder(name: str) -> Path:
    from shopfit.recipe.shipped import sample_folder
    from shopfit.settings import expanded

    folder = expanded(name)
    return folder if folder.is_dir() else sample_folder(name) or folder


@command.command("ls")
@click.option("--donor", type=TEXT, metavar="MERCHANT", help="Only those that learned from this merchant: refit them.")
@as_json
@only_prints
def list_starters(donor: str | None, as_json: bool) -> None:
    """List starters and their donors."""
    from shopfit.registry import Registry
    from shopfit.settings import Settings
    from shopfit.starter import starters

    with Registry.open(Settings.from_environment()) as registry:
        found = starters(registry, donor=donor)
    if as_json:
        print_json([{"version": version, "donors": manifest.donors} for version, manifest in found])
        return
    for version, manifest in found:
        named = " ".join(f"@{alias}" for alias in version.aliases)
        console().print(f"{version.name}  {named}  donors: {', '.join(manifest.donors)}")
    if not found:
        console().print(f"no starter learned from {donor}" if donor else "there are no starters")
