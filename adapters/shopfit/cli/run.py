"""`shopfit run`: the runs there are, and the queue."""

import click

from shopfit.cli.arguments import TEXT
from shopfit.cli.terminal import actor, as_json, console, only_prints, print_json
from shopfit.errors import ShopfitError


@click.group(name="run", short_help="List, stop and resume runs; work off the queue.")
def command() -> None:
    """Every `shopfit adapter` is a run, and so is what is started from the console.

    A run's folder is under SHOPFIT_HOME/runs, and tells all of it.
    """


@command.command("ls")
@click.argument("merchant", type=TEXT, required=False)
@as_json
@only_prints
def ls(merchant: str | None, as_json: bool) -> None:
    """List the runs of MERCHANT, or of all; the newest first."""
    from shopfit.runs import all_runs
    from shopfit.settings import Settings

    found = all_runs(Settings.from_environment().home, merchant)
    if as_json:
        print_json([{"id": run.id, "state": run.state(), **_asked(run.asked)} for run in found])
        return
    screen = console()
    for run in found:
        screen.row(run.state(), f"{run.asked.merchant} {run.id}: {run.asked.job} {run.asked.recipe}")
    if not found:
        screen.row("runs", "none yet: `shopfit adapter` makes one")


def _asked(asked: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(asked)  # type: ignore[call-overload, no-any-return]


@command.command("stop")
@click.argument("merchant", type=TEXT)
@click.argument("run_id", metavar="RUN", type=TEXT)
@click.option("--keep-best", is_flag=True, help="End the training, and evaluate and register its best weights.")
def stop(merchant: str, run_id: str, keep_best: bool) -> None:
    """End the run RUN of MERCHANT as Ctrl-C does: `resume` goes on with it."""
    from shopfit.runs import find_run
    from shopfit.settings import Settings

    run = find_run(Settings.from_environment().home, merchant, run_id)
    if run.pid is None:
        raise ShopfitError(f"the run {run.id} of {merchant} is not under way: it is {run.state()}")
    if keep_best:
        run.keep_best()
    else:
        run.interrupt()
    console().row("asked", f"{run.id} to {'keep its best weights' if keep_best else 'stop'}")


@command.command("resume")
@click.argument("merchant", type=TEXT)
@click.argument("run_id", metavar="RUN", type=TEXT)
def resume(merchant: str, run_id: str) -> None:
    """Queue the run RUN of MERCHANT again: it goes on from what it kept. A server or `shopfit run work` takes it."""
    from shopfit.runs import enqueue, find_run
    from shopfit.settings import Settings

    home = Settings.from_environment().home
    run = find_run(home, merchant, run_id)
    if run.state() in ("queued", "running"):
        raise ShopfitError(f"the run {run.id} of {merchant} is {run.state()} already", next_step="wait for its end")
    enqueue(home, run, by=actor(), resume=True)
    console().row("queued", run.id)


@command.command("work")
@click.option(
    "--lane", type=click.Choice(["tuning", "asking"]), default="tuning", show_default=True, help="Which queue."
)
def work(lane: str) -> None:
    """Do the runs that wait, one after another, until none does. A lane has one worker at a time."""
    from shopfit.runs.worker import work as work_off
    from shopfit.settings import Settings

    done = work_off(Settings.from_environment().home, lane)  # type: ignore[arg-type]
    console().row("done", f"{done} runs")
