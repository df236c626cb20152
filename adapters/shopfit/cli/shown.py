"""`shopfit shown`: the log of what was shown, which `shopfit serve --shown` writes."""

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import as_json, console, counted, keep, print_json


@click.group()
def command() -> None:
    """Remove a merchant from the log of what was shown."""


@command.command()
@click.argument("merchant", type=TEXT)
@click.option("--log", type=TEXT, required=True, metavar="URL", help="Where the log is: as in `shopfit serve --shown`.")
@as_json
def erase(merchant: str, log: str, as_json: bool) -> None:
    """Remove all that the log holds of MERCHANT.

    `shopfit merchant erase` cannot know where the log is. Gateways write what they gathered within 30 seconds: run this
    a minute after that.
    """
    from shopfit.serve.shown_store import ShownStore

    files = ShownStore(log).erase(merchant)
    keep(f"{merchant} is erased from the log")
    if as_json:
        print_json({"merchant": merchant, "files": files})
    else:
        console().print(f"removed {counted(files, 'file')} of {merchant}")
