"""What commands share: options, quiet libraries, the console, JSON for machines, and what came of a run."""

import functools
import getpass
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.streams import CONTROLS, holds, write
from shopfit.documents import document
from shopfit.errors import DataError, ShopfitError

if TYPE_CHECKING:
    from shopfit.cli.screen import Screen
    from shopfit.merchant.merchant import Merchant
    from shopfit.recipe.schema import Recipe
    from shopfit.registry import Registry
    from shopfit.tune.reporter import Reporter


@dataclass(slots=True)
class Outcome:
    """What a run has finished, to be reported if its output fails or it is stopped.

    Args:
        kept: what is done and stays done, in one line; empty as long as nothing is.
        only_prints: whether its output is all that it does.
    """

    kept: str = ""
    only_prints: bool = False


def keep(what: str) -> None:
    """Say what is done and stays done, before anything is printed of it."""
    click.get_current_context().ensure_object(Outcome).kept = what


def kept_so_far() -> str:
    """What was said to be done last; empty if nothing was."""
    return click.get_current_context().ensure_object(Outcome).kept


def only_prints(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a command whose output is all that it does: it has failed if that cannot be written."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        click.get_current_context().ensure_object(Outcome).only_prints = True
        return command(*arguments, **options)

    return run


as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, for machines."
)


set_option = click.option(
    "--set",
    "overrides",
    type=TEXT,
    metavar="KEY=VALUE",
    multiple=True,
    help="Change a recipe's key, such as tune.epochs=2. Repeatable.",
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """MERCHANT, RECIPE, --data and --set: what `adapter` and `plan` are asked for."""
    for decorate in (
        set_option,
        click.option(
            "--data",
            type=PLACE,
            metavar="FOLDER",
            help="The merchant's folder; by default the sample merchant of that name.",
        ),
        click.argument("recipe", type=PLACE),
        click.argument("merchant", type=TEXT),
    ):
        command = decorate(command)
    return command


def merchant_of(merchant: str, data: str | None) -> "Merchant":
    """The merchant in the folder to read: `--data`, or what came through the console, or the sample merchant's.

    Raises:
        DataError: if there is no such sample, or the folder belongs to another merchant.
    """
    from shopfit.merchant.merchant import Merchant
    from shopfit.recipe.names import is_slug
    from shopfit.recipe.shipped import sample_folder, sample_merchants
    from shopfit.settings import Settings, expanded, merchant_folder

    own = merchant_folder(Settings.from_environment().home, merchant) if is_slug(merchant) else None
    folder = expanded(data) if data is not None else own if own and own.is_dir() else sample_folder(merchant)
    if folder is None:
        raise DataError(
            f"there is no sample merchant {merchant!r} (allowed without --data: {', '.join(sample_merchants())})",
            next_step="give the merchant's own folder with --data (DATA= for make)",
        )
    opened = Merchant.open(folder)
    if opened.name != merchant:
        raise DataError(
            f"{folder} is the folder of merchant {opened.name!r}, not {merchant!r}",
            next_step=f"name the merchant {opened.name}, or give another folder",
        )
    return opened


def open_registry() -> "Registry":
    """The registry that the environment names.

    Raises:
        RegistryError: if it cannot be reached.
    """
    from shopfit.registry import Registry
    from shopfit.settings import Settings

    return Registry.open(Settings.from_environment())


def check_named(merchant: "Merchant", recipe: "Recipe", overrides: Sequence[str]) -> None:
    """Make sure that the example file is there if `--set data.file` names it: rank would learn from a catalog instead.

    Raises:
        DataError: if it is not.
    """
    from shopfit.merchant.splits import check_there
    from shopfit.recipe.overrides import Overrides

    if Overrides.parse(overrides).sets(("data", "file")):
        check_there(merchant, recipe)


def check_writable(folder: Path, next_step: str) -> None:
    """Make sure that a folder can be written to, before there is work that could be lost.

    Args:
        folder: an existing one, or SHOPFIT_HOME or a part of it, which is made.
        next_step: what to do if it cannot.

    Raises:
        ShopfitError: if nothing can be written there.
    """
    from shopfit.settings import Settings

    try:
        if folder.is_relative_to(Settings.from_environment().home):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ShopfitError(
            f"nothing can be written to the folder {folder}: {error.strerror}", next_step=next_step
        ) from error


def check_home() -> None:
    """Make sure that SHOPFIT_HOME can be written to, before anything is trained that is to be kept there.

    Raises:
        ShopfitError: if it cannot.
    """
    from shopfit.settings import Settings

    check_writable(Settings.from_environment().home, "set SHOPFIT_HOME to a folder that this user may write")


def actor() -> str:
    """Who runs this, for the audit: the account's name, or its number where none is known, as in many containers."""
    try:
        name = getpass.getuser()
    except (ImportError, KeyError, OSError):  # no passwd entry: OpenShift runs containers as an arbitrary number
        return f"uid:{os.getuid()}"
    return ascii(name)[1:-1] if not name.isprintable() else name


def console(*, to_stderr: bool = False) -> "Screen":
    """A console; on standard error when standard output is for a JSON document."""
    from shopfit.cli.screen import Screen

    return Screen(to_stderr=to_stderr)


def counted(count: int, noun: str, plural: str = "") -> str:
    """How many there are, in words: `1 row`, `2 rows`, `1,200 rows`.

    Args:
        count: 0 or more.
        noun: of one; more words may follow it only in `plural`, too.
        plural: of several; by default the noun with an s.
    """
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def size(count: int) -> str:
    """Bytes, as people read them."""
    if count < 1000:
        return counted(count, "byte")
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def announce(screen: "Screen") -> "Reporter":
    """Prints each resolved choice in a line of its own."""

    def reporter(what: str, detail: str) -> None:
        if what == "registered":
            keep(f"{detail} is registered")
        screen.row(what, detail)

    return reporter


def print_json(value: Any) -> None:
    """One JSON document on standard output; in ASCII where that cannot hold it."""
    write(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as JSON that standard output shows as it is: nothing in it has to be spelt out to be printed.

    Args:
        value: as `document` takes it.
        indent: spaces a level, 0 or more; None for one line.
    """
    plain = document(value)
    text = json.dumps(plain, ensure_ascii=False, indent=indent)
    if not holds(text):
        text = json.dumps(plain, indent=indent)
    return CONTROLS.sub(lambda found: json.dumps(found[0])[1:-1], text)
