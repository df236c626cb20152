"""`shopfit fleet`: the main job for many merchants at once."""

import os
import threading
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.terminal import Outcome as Told
from shopfit.cli.terminal import (
    actor,
    announce,
    as_json,
    check_home,
    check_named,
    console,
    counted,
    print_json,
    set_option,
)
from shopfit.libraries import crowded, quiet, share_cores, usable_cores

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from shopfit.cli.screen import Screen
    from shopfit.fleet import Outcome
    from shopfit.merchant.merchant import Merchant

FAILED, REFUSED = 2, 3
_EVERY = 10.0  # seconds between two lines, outside a terminal
_SHOWN = 12  # merchants at work


@click.command(short_help="Train, evaluate and register adapters of many merchants at once.")
@click.argument("merchants", type=TEXT, nargs=-1)
@click.option("--recipe", type=PLACE, required=True, help="The name of a shipped recipe, or the path of a YAML file.")
@click.option(
    "--data",
    type=PLACE,
    metavar="FOLDER",
    help="A folder with a folder for each merchant; by default the sample merchants. Without MERCHANTS, all in it.",
)
@set_option
@click.option(
    "--instant/--no-instant", default=True, help="Whether each gets the version that needs no training first."
)
@click.option(
    "--resume", is_flag=True, help="Leave out the merchants that this fleet registered before it was stopped."
)
@click.option(
    "--slots", type=click.IntRange(1, 256), default=16, show_default=True, metavar="N", help="Trainings at a time."
)
@click.option(
    "--ray",
    "cluster",
    type=TEXT,
    metavar="ADDRESS",
    help="Have the workers of a Ray cluster train: `auto`, an address, or `local` to start one on this machine.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Workers of the cluster; by default one a GPU, or else one a machine. Without --ray, processes on this "
    "machine: on a CPU one a core is fastest.",
)
@as_json
def command(
    merchants: tuple[str, ...],
    recipe: str,
    data: str | None,
    overrides: tuple[str, ...],
    instant: bool,
    resume: bool,
    slots: int,
    cluster: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Train an adapter for each of MERCHANTS, evaluate it, and register it, all on one base that a process loads once.

    Each gets what `shopfit adapter` makes of it alone; trainings of different merchants share their forwards. What
    fails for one merchant, such as bad data, fails for that one alone: then the exit status is 2. It is 3 if the gate
    refused one that nothing else serves.
    """
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    opened = merchants_of(merchants, data)
    check_home()
    share_cores()
    quiet()
    from shopfit.fleet import onboard_fleet
    from shopfit.settings import Settings

    screen = console(to_stderr=as_json)
    say = announce(screen)
    if warning := crowded(os.getloadavg()[0], os.cpu_count() or 1):
        say("machine", warning)
    say("fleet", f"{counted(len(opened), 'merchant')}, recipe {loaded.name}, base {loaded.base}")
    if cluster is None and workers is None and (cores := _workers()) > 1 and len(opened) > cores:
        say("machine", f"one process: on a CPU `--workers {cores}`, one a core, is faster, and takes memory for each")
    told = click.get_current_context().ensure_object(Told)
    with Progress(screen, len(opened), told) as progress:
        make = onboard_fleet
        if cluster is not None or (workers or 1) > 1:
            from shopfit.fleet_on_ray import LOCAL, onboard_on_ray

            make = partial(onboard_on_ray, address=cluster or LOCAL, workers=workers)
        outcomes = make(
            opened,
            loaded,
            settings=Settings.from_environment(),
            actor=actor(),
            instant=instant,
            resume=resume,
            slots=slots,
            check=lambda merchant: check_named(merchant, loaded, overrides),
            reporter=progress.stage,
            ended=progress.ended,
        )
    if as_json:
        print_json(
            {
                "merchants": [asdict(one) | {"needs_attention": one.needs_attention} for one in outcomes],
                "counts": Counter(one.state for one in outcomes),
            }
        )
    else:
        _tell(screen, outcomes, progress.seconds)
    if any(one.state == "failed" for one in outcomes):
        raise click.exceptions.Exit(FAILED)
    if any(one.needs_attention for one in outcomes):
        raise click.exceptions.Exit(REFUSED)


def _workers() -> int:
    """How many are fastest on this machine; 0 where it has a GPU, or Ray is not installed."""
    import torch

    return 0 if torch.cuda.is_available() or find_spec("ray") is None else usable_cores()


def merchants_of(names: tuple[str, ...], data: str | None) -> "list[Merchant]":
    """The merchants of a fleet.

    Args:
        names: of them; none for all in `data`.
        data: a folder with a folder for each, of its name; None for the samples.

    Raises:
        DataError: with all that are not there, or cannot be opened.
    """
    from shopfit.errors import DataError, Problem, ShopfitError
    from shopfit.merchant.merchant import DESCRIPTION, Merchant
    from shopfit.recipe.shipped import sample_folder, sample_merchants
    from shopfit.settings import expanded

    place = None if data is None else expanded(data)
    if not names and place is None:
        raise click.UsageError("name merchants, or give a folder of merchants with --data")
    if not names and place is not None:
        names = tuple(sorted(path.parent.name for path in place.glob(f"*/{DESCRIPTION}")))
        if not names:
            raise DataError(
                f"there is no merchant in {place} (allowed: folders that hold {DESCRIPTION})",
                next_step="give the folder that the merchants' folders lie in",
            )
    found: list[Merchant] = []
    problems: list[Problem] = []
    for name in names:
        folder: Path | None = sample_folder(name) if place is None else place / name
        if folder is None:
            problems.append(Problem(name, "is no sample merchant", ", ".join(sample_merchants())))
            continue
        try:
            merchant = Merchant.open(folder)
        except ShopfitError as error:
            problems += error.problems or [Problem(name, error.message)]
            continue
        if merchant.name != name:
            problems.append(Problem(str(folder), f"is the folder of merchant {merchant.name!r}", name))
        else:
            found.append(merchant)
    if problems:
        raise DataError(
            "not every merchant of the fleet is there",
            problems=problems,
            next_step="correct them, or leave them out; nothing was trained",
        )
    return found


class Progress:
    """How far a fleet is: a table in a terminal, else a line for each outcome, and one at least every 10 s.

    Args:
        screen: where it is shown.
        count: of merchants.
        told: what is registered, in words.
    """

    def __init__(self, screen: "Screen", count: int, told: Told) -> None:
        from rich.live import Live

        self._versions: set[str] = set()
        self._dealt = False  # to workers, of whom only outcomes tell what they registered
        self._screen, self._told, self._count, self._done = screen, told, count, 0
        self._stages: dict[str, tuple[str, str]] = {}
        self._started = time.monotonic()
        self._live = Live(console=screen, get_renderable=self._table, transient=True, refresh_per_second=2)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="shopfit-fleet-progress", daemon=True)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._started

    def __enter__(self) -> "Progress":
        if self._screen.is_terminal:
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._live.is_started:
            self._live.stop()

    def stage(self, merchant: str, what: str, detail: str) -> None:
        """A merchant's run, in a thread of its own, has come so far."""
        self._stages[merchant] = what, detail
        self._dealt |= what == "worker"
        if what == "registered":
            self._versions.add(detail)
        self._keep()

    def ended(self, outcome: "Outcome") -> None:
        """A merchant's run is over."""
        self._stages.pop(outcome.merchant, None)
        self._done += 1
        if not outcome.earlier:
            self._versions |= {outcome.version, outcome.instant} - {""}
        self._keep()
        self._screen.row(outcome.merchant, worded(outcome))

    def _keep(self) -> None:
        count = counted(len(self._versions), "version")
        if self._dealt:
            count = f"{count} or more" if self._versions else "workers may have versions"
        if self._dealt or self._versions:
            self._told.kept = f"{count} registered; go on with --resume"

    def _tick(self) -> None:
        silent = 0.0
        while not self._over.wait(_EVERY - silent):
            silent = self._screen.silent_for()
            if silent >= _EVERY:
                stages = list(self._stages.items())
                at = ", ".join(f"{merchant}: {what}" for merchant, (what, _) in stages[:_SHOWN])
                self._screen.row("fleet", f"{self._done} of {self._count} done, {self.seconds:.0f} s so far; {at}")
                silent = 0.0

    def _table(self) -> "Table":
        from rich.table import Table
        from rich.text import Text

        title = f"{self._done} of {self._count} done, {self.seconds:.0f} s"
        table = Table("merchant", "stage", "", title=title, title_justify="left", box=None)
        for merchant, (what, detail) in list(self._stages.items())[:_SHOWN]:
            table.add_row(Text(merchant), Text(what), Text(detail, overflow="ellipsis", no_wrap=True))
        return table


def worded(outcome: "Outcome") -> str:
    """An outcome in a line."""
    from shopfit.evaluation.wording import number

    if outcome.state == "failed":
        return f"failed after {outcome.seconds:.0f} s: {outcome.reason}"
    values = ["-" if value is None else number(value) for value in (outcome.before, outcome.after)]
    earlier = ", made before" if outcome.earlier else f", {outcome.seconds:.0f} s"
    return f"{outcome.version} {outcome.state}, {outcome.metric} {values[0]} -> {values[1]}{earlier}"


def _tell(screen: "Screen", outcomes: "list[Outcome]", seconds: float) -> None:
    """The summary: how many came to what, and who needs attention."""
    counts = Counter(one.state for one in outcomes)
    screen.print()
    states = ", ".join(f"{counts[state]} {state}" for state in ("promoted", "candidate", "refused", "failed"))
    screen.row("fleet", f"{counted(len(outcomes), 'merchant')} in {seconds:.0f} s: {states}")
    for one in outcomes:
        if not one.needs_attention:
            continue
        screen.row("attention", f"{one.merchant}: {one.reason}")
        for problem in one.problems:
            screen.row("", problem)
        if one.next_step:
            screen.row("", one.next_step)
    if kept := [one.merchant for one in outcomes if one.state == "refused" and one.instant]:
        screen.row("instant", f"training made no better than the instant version: {', '.join(kept)}")
    if waiting := [one.version for one in outcomes if one.state == "candidate"]:
        screen.row("promote", f"shopfit registry promote {waiting[0]}, if you decide so; {len(waiting)} such")
