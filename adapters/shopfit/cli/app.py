"""The `shopfit` command and its groups. A command's module is imported when the command is used, not before."""

import json
import sys
from importlib import import_module

import click

from shopfit import __version__
from shopfit.errors import ShopfitError

INTERRUPTED = 130

COMMANDS = {
    "adapter": "Train, evaluate and register a merchant's adapter.",
    "label-next": "Propose the unlabeled rows that are most worth a label.",
    "starter": "Fit and list starters: adapters that others start from.",
    "curve": "Measure a recipe against the number of examples; register nothing.",
    "plan": "Say what training an adapter would cost; train nothing.",
    "predict": "Answer one request with an adapter from the registry.",
    "evaluate": "Measure a registered adapter again, beside base, priors and baselines.",
    "recipe": "List, show, copy and check recipes.",
    "base": "List, fetch and show base models.",
    "registry": "List, promote, roll back, verify and remove versions; collect garbage.",
    "merchant": "Erase a merchant, with a receipt.",
}


class Commands(click.Group):
    """The commands of `COMMANDS`, each in a module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """In the order a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """The command's module is imported here."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"shopfit.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click passes it
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="shopfit")
def shopfit() -> None:
    """Fit one shared language model to every shop.

    State lives under SHOPFIT_HOME (default ~/.shopfit). Exit status: 0 done, 2 a mistake to mend, 3 the gate refused
    the adapter, 130 interrupted.
    """


def main() -> None:
    """Run the command line, and turn what goes wrong into one clear message."""
    try:
        status = shopfit.main(standalone_mode=False)  # what a command exits with; None if it just returns
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("\nInterrupted: nothing was registered, nothing half-made is left.", err=True)
        sys.exit(INTERRUPTED)
    except ShopfitError as error:
        _show(error)
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _show(error: ShopfitError) -> None:
    if "--json" in sys.argv:
        problems = [{"where": one.where, "what": one.what, "allowed": one.allowed} for one in error.problems]
        document = {"error": error.message, "kind": type(error).__name__, "problems": problems, "next": error.next_step}
        click.echo(json.dumps(document, ensure_ascii=False))
    click.echo(f"error: {error}", err=True)
