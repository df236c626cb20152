"""`shopfit merchant`: what is done with a merchant as a whole."""

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from shopfit.cli.terminal import actor, as_json, console, counted, keep, print_json, size
from shopfit.errors import ShopfitError

if TYPE_CHECKING:
    from shopfit.registry.erasing import Receipt
    from shopfit.registry.temp_folders import Space


@click.group()
def command() -> None:
    """Erase a merchant, with a receipt."""


@command.command()
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def erase(name: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove all that is kept of the merchant NAME: in the registry, and in this machine's cache and folders.

    Its runs are ended first. A folder of data that lies elsewhere than under SHOPFIT_HOME stays. Engines drop its
    adapters within a second. Broken off, the same command goes on; on another machine that served the merchant, it
    removes what that one keeps. The receipt stays in the audit.
    """
    from shopfit.registry import Registry
    from shopfit.runs.stopping import runs_ended
    from shopfit.settings import Settings

    settings = Settings.from_environment()
    with Registry.open(settings) as registry:
        earlier = registry.receipts(name)
        if not dry_run and not yes:
            _ask(registry.erase(name, settings, actor=actor(), dry_run=True), as_json)
        with nullcontext() if dry_run else runs_ended(settings.home, name):
            receipt = registry.erase(name, settings, actor=actor(), dry_run=dry_run)
    if not dry_run:
        keep(f"{receipt.merchant} is erased")
    nothing_left = receipt.time in {one.time for one in earlier}
    if as_json:
        print_json({"dry_run": dry_run, "nothing_left": nothing_left, "receipt": receipt})
    elif dry_run and not nothing_left:
        _show(receipt, "would be erased")
    else:
        done = f"erased {receipt.time:%Y-%m-%d %H:%M:%S} by {receipt.actor}"
        _show(receipt, f"was {done}, and nothing of it is left" if nothing_left else done)


def _ask(planned: "Receipt", as_json: bool) -> None:
    """Show at the terminal what would go, and ask for a yes.

    Raises:
        ShopfitError: if there is no terminal to ask at.
        click.Abort: if they do not agree, or press Ctrl-C.
    """
    if as_json or not sys.stdin.isatty():
        raise ShopfitError(
            f"erasing {planned.merchant} cannot be undone, and there is nobody to ask",
            next_step="add --yes, or see with --dry-run what would go",
        )
    _show(planned, "would be erased")
    keep(f"nothing of {planned.merchant} was erased")
    click.confirm(f"Erase {planned.merchant}? This cannot be undone.", abort=True)
    keep("")


def _show(receipt: "Receipt", what: str) -> None:
    screen = console()
    screen.entry(receipt.merchant, f" {what}", width=0)
    more = counted(receipt.shared_blobs, "more stays", "more stay")
    shared = f"; {more}, for versions of others have the same bytes"
    lines = [("version", f"{name}, digest {digest}") for name, digest in receipt.versions.items()]
    lines += [("alias", alias) for alias in receipt.aliases]
    lines.append(("blobs", _space(receipt.blobs) + (shared if receipt.shared_blobs else "")))
    lines.append(("orphans", f"{_space(receipt.orphans)} that no version named"))
    lines += [(place, _space(one)) for place, one in receipt.local.items()]
    lines += [
        ("starter", f"{name} learned from it: fit it again without {receipt.merchant}, then remove {name}")
        for name in receipt.starters
    ]
    lines += [("starter", f"{name} is damaged, and may have learned from it") for name in receipt.unreadable]
    if receipt.keys:
        lines.append(("keys", counted(receipt.keys, "API key")))
    lines += [(what, counted(count, "row")) for what, count in receipt.rows.items()]
    for name, line in lines:
        screen.row(name, line)


def _space(space: "Space") -> str:
    return f"{counted(space.count, 'file')}, {size(space.bytes)}"
