"""The `shopfit` command and its groups. A command's module is imported when the command is used, not before."""

import errno
import gc
import io
import os
import sys
from importlib import import_module

import click

from shopfit import __version__
from shopfit.cli.stopping import Stopped, heed_signals
from shopfit.cli.streams import failure, neutral, one_line, open_streams, write
from shopfit.cli.terminal import Outcome, print_json
from shopfit.errors import ShopfitError
from shopfit.libraries import leave_cores_to_torch

INTERRUPTED = 130
UNPRINTED = 4
_YOUNG = 10_000  # objects until those are looked for that nothing holds: imports make a million, and they stay

EXIT_STATUSES = {
    0: "done",
    2: "there is a mistake to mend; the message says which, and the next step",
    3: "the gate refused the adapter, and there is no version that needed no training",
    UNPRINTED: "the work is done, and its answer could not be printed",
    INTERRUPTED: "interrupted by Ctrl-C; nothing half-made is left",
    143: "terminated by SIGTERM; nothing half-made is left",
}
"""What commands return, and when."""

COMMANDS = {
    "adapter": "Train, evaluate and register a merchant's adapter.",
    "fleet": "Train, evaluate and register adapters of many merchants at once.",
    "label-next": "Propose the unlabeled rows that are most worth a label.",
    "starter": "Fit and list starters: adapters that others start from.",
    "curve": "Measure a recipe against the number of examples; register nothing.",
    "data": "Check a merchant's files, and show what was understood of them.",
    "plan": "Say what training an adapter would cost; keep nothing.",
    "predict": "Answer one request with an adapter from the registry.",
    "evaluate": "Measure a registered adapter again, beside base, priors and baselines.",
    "compare": "Put a merchant's test rows to two versions, and show where they differ.",
    "run": "List, stop and resume runs; work off the queue.",
    "serve": "Serve every merchant's adapter over HTTP.",
    "console": "Open the console in a browser, for this machine alone.",
    "recipe": "List, show, copy and check recipes.",
    "base": "List, fetch and show base models.",
    "registry": "List, promote, roll back, verify and remove versions; collect garbage.",
    "release": "Start, list and end canaries and shadows.",
    "key": "Make, list and revoke API keys.",
    "limit": "Set and list limits of merchants.",
    "merchant": "Erase a merchant, with a receipt.",
    "shown": "Remove a merchant from the log of what was shown.",
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
    the adapter, 4 the answer could not be printed, 130 interrupted, 143 terminated; in both of these nothing half-made
    is left.
    """


def main() -> None:
    """Run the command line, and turn what goes wrong into one clear message."""
    gc.set_threshold(_YOUNG)
    leave_cores_to_torch()
    open_streams()
    heed_signals()
    outcome = Outcome()
    try:
        status = _run(outcome)
        if (error := failure()) is not None:
            status = _unprinted(error, outcome, status)
    except Stopped as stopped:  # while the outcome was being printed
        status = stopped.status
    gc.freeze()  # the interpreter looks through all objects again as it ends, for over a second after torch
    sys.exit(status)


def _run(outcome: Outcome) -> int:
    """Run the command, say what went wrong, and return the exit status."""
    try:
        status = shopfit.main(standalone_mode=False, obj=outcome)  # what a command exits with; None if it just returns
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        write(neutral(shown.getvalue().rstrip()), err=True)
        return error.exit_code
    except click.Abort as abort:
        return _aborted(abort, outcome)
    except ShopfitError as error:
        _show(error, outcome)
        return error.exit_code
    except OSError as error:
        _show(_mended(error), outcome)
        return ShopfitError.exit_code
    return status if isinstance(status, int) else 0


def _aborted(abort: click.Abort, outcome: Outcome) -> int:
    """Say what a stopped command, or one whose question was answered no, has come to, and return the exit status."""
    stopped = abort.__cause__ or abort.__context__  # a question has it as context alone
    if abort.__cause__ is None and stopped is not None:
        write("", err=True)  # the question has no end of line yet
    if isinstance(stopped, KeyboardInterrupt):
        state = f"{outcome.kept}." if outcome.kept else "nothing was registered, nothing half-made is left."
        write(f"Interrupted: {one_line(state)}", err=True)
        return stopped.status if isinstance(stopped, Stopped) else INTERRUPTED
    if abort.__cause__ is not None:  # the input ended early: no question was answered
        raise abort
    write(f"{one_line(outcome.kept or 'nothing was done')}.", err=True)
    return ShopfitError.exit_code


def _unprinted(error: OSError, outcome: Outcome, status: int) -> int:
    """Say that standard output could not be written, and return the exit status: that of the work, if there was any."""
    only_prints = outcome.only_prints or not outcome.kept  # or it was help, or what would be done
    if only_prints and error.errno == errno.EPIPE:  # as with `| head`: the reader closed it
        return status
    done = f"; all the same, {one_line(outcome.kept)}" if outcome.kept else ""
    write(f"error: standard output cannot be written: {error.strerror}{done}", err=True)
    return UNPRINTED if only_prints and status == 0 else status


def _mended(error: OSError) -> ShopfitError:
    """What the system refused, as a mistake that can be mended."""
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    refused = error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}
    step = "let this user read and write there, or set SHOPFIT_HOME to a folder of its own" if refused else ""
    return ShopfitError(f"{where}{error.strerror or error}", next_step=step or "mend that, and run the command again")


def _show(error: ShopfitError, outcome: Outcome) -> None:
    if "--json" in sys.argv:
        document = error.document()
        print_json({"error": document.pop("message"), **document})
    write("error: " + "\n".join(one_line(line) for line in error.lines), err=True)
    if outcome.kept:
        write(f"All the same, {one_line(outcome.kept)}.", err=True)
