"""What commands share: options, quiet libraries, the console, and JSON for machines."""

import dataclasses
import getpass
import json
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shopfit.errors import DataError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from shopfit.tune.making import Say

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output, for machines."
)


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """MERCHANT, RECIPE, --data and --set: what `adapter` and `plan` are asked for."""
    for decorate in (
        click.option(
            "--set",
            "overrides",
            metavar="KEY=VALUE",
            multiple=True,
            help="Change a recipe's key, such as tune.epochs=2. Repeatable.",
        ),
        click.option(
            "--data", metavar="FOLDER", help="The merchant's folder; by default the sample merchant of that name."
        ),
        click.argument("recipe"),
        click.argument("merchant"),
    ):
        command = decorate(command)
    return command


def merchant_folder(merchant: str, data: str | None) -> Path:
    """The folder to read: `--data`, or the sample merchant's.

    Raises:
        DataError: if there is no such sample, or the folder belongs to another merchant.
    """
    from shopfit.merchant.merchant import Merchant
    from shopfit.recipe.shelf import sample_folder, sample_merchants

    folder = Path(data).expanduser() if data else sample_folder(merchant)
    if folder is None:
        raise DataError(
            f"there is no sample merchant {merchant!r} (allowed without --data: {', '.join(sample_merchants())})",
            next_step="give the merchant's own folder with --data (DATA= for make)",
        )
    if (name := Merchant.open(folder).name) != merchant:
        raise DataError(
            f"{folder} is the folder of merchant {name!r}, not {merchant!r}",
            next_step=f"name the merchant {name}, or give another folder",
        )
    return folder


def actor() -> str:
    """Who runs this, for the audit: the account's name, or its number where none is known, as in many containers."""
    try:
        name = getpass.getuser()
    except (ImportError, KeyError, OSError):  # no passwd entry: OpenShift runs containers as an arbitrary number
        return f"uid:{os.getuid()}"
    return ascii(name)[1:-1] if not name.isprintable() else name


def quiet() -> None:
    """Keep libraries from talking over us: their warnings are for whoever programs with them."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")  # our own bar is enough
    warnings.simplefilter("ignore")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()


def console(*, to_stderr: bool = False) -> "Console":
    """A console; on standard error when standard output is for a JSON document."""
    from rich.console import Console

    return Console(stderr=to_stderr, highlight=False, soft_wrap=True)


def entry(name: str, rest: str, *, style: str = "cyan") -> "Text":
    """A line, its name in colour. What others wrote is shown as it is, its controls and ends of lines spelt out."""
    from rich.text import Text

    plain = [text if text.isprintable() else "".join(map(_printable, text)) for text in (name, rest)]
    return Text.assemble((plain[0], style), (plain[1], "" if name else style if style != "cyan" else ""))


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


def size(count: int) -> str:
    """Bytes, as people read them."""
    return f"{count} bytes" if count < 1000 else f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def announce(screen: "Console") -> "Say":
    """Prints each resolved choice in a line of its own."""

    def say(what: str, detail: str) -> None:
        screen.print(f"[cyan]{what:>10}[/]  {detail}", markup=True)

    return say


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(plain(value), ensure_ascii=False, indent=2))


def plain(value: Any) -> Any:
    """Dataclasses, pydantic models, paths and times as JSON has them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return json.loads(value.model_dump_json(by_alias=True))  # what is undefined is null, not NaN
    if isinstance(value, dict):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value) if isinstance(value, Path) else value
