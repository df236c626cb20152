"""`shopfit adapter`: the main job."""

import json
import shlex
from types import TracebackType
from typing import TYPE_CHECKING

import click

from shopfit.cli.terminal import (
    actor,
    announce,
    as_json,
    check_home,
    check_named,
    console,
    keep,
    merchant_folder,
    print_json,
    quiet,
    recipe_options,
)

if TYPE_CHECKING:
    from shopfit.cli.screen import Screen
    from shopfit.engine import Tenant
    from shopfit.evaluation import CurvePoint
    from shopfit.onboard import Onboarded

REFUSED = 3


@click.command(short_help="Train, evaluate and register a merchant's adapter.")
@recipe_options
@click.option(
    "--search",
    "trials",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Try N settings (method, rank, learning rate, epochs) by cross-validation first, and take the best.",
)
@as_json
def command(
    merchant: str, recipe: str, data: str | None, overrides: tuple[str, ...], trials: int | None, as_json: bool
) -> None:
    """Train an adapter for MERCHANT with RECIPE, evaluate it, and register it as a new version.

    RECIPE is the name of a shipped recipe or the path of a YAML file. The gate promotes the version if it is proven to
    beat the bare base and every prior. If it beats them but that may be chance, it becomes @candidate; else it is
    registered as refused, and the exit status is 3.
    """
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    folder = merchant_folder(merchant, data)
    check_named(folder, loaded, overrides)
    check_home()
    quiet()
    from shopfit.onboard import onboard
    from shopfit.settings import Settings

    screen = console(to_stderr=as_json)

    with Bar(screen) as bar:
        settings = Settings.from_environment()
        done = onboard(
            folder,
            loaded,
            settings=settings,
            actor=actor(),
            trials=trials,
            say=announce(screen),
            watch=bar,
        )
    if done is None:
        return
    keep(f"{done.version.name} is registered" + (", and is @production" if done.report.verdict.promote else ""))
    if as_json:
        verdict = done.report.verdict
        answer = {
            "version": done.version,
            "promoted": verdict.promote,
            "candidate": verdict.candidate,
            "reason": verdict.reason,
            "bundle": done.bundle.folder,
            "report": done.report,
        }
        print_json(answer)
    else:
        _tell(screen, done)
    if done.report.verdict.refused:
        raise click.exceptions.Exit(REFUSED)


def _tell(screen: "Screen", done: "Onboarded") -> None:
    from shopfit.engine import Tenant
    from shopfit.evaluation import show

    screen.print()
    show(done.report, screen)
    verdict = done.report.verdict
    reference = f"{done.version.merchant}/{done.version.recipe}" if verdict.promote else done.version.name
    state = "promoted to @production" if verdict.promote else "registered as refused; @production is unchanged"
    state = "registered as @candidate; @production is unchanged" if verdict.candidate else state
    screen.print()
    screen.row("version", f"{done.version.name}, {state}")
    screen.row("bundle", done.bundle.folder)
    screen.row("try it", try_it(reference, Tenant.of(done.bundle)))
    if verdict.candidate:
        screen.row("promote", f"shopfit registry promote {done.version.name}")


def try_it(reference: str, tenant: "Tenant") -> str:
    """A command that asks the adapter something, in one line."""
    fields = [name for name in tenant.recipe.fields if name not in tenant.recipe.data.item_fields]
    items = tenant.history or tenant.catalog
    if "query" in fields:
        asked = f"--query {shlex.quote('a present for a beginner')} --top 5"
    elif fields:
        asked = shlex.quote("arrived cracked, and nobody answers my mails")
    else:
        some = list(items or ["a title", "another title"])
        values = {
            name: some[place] if name == "item" else [some[place]] for place, name in enumerate(tenant.recipe.fields)
        }
        asked = shlex.quote(json.dumps(values, ensure_ascii=False))
    return f"shopfit predict {reference} {asked}"


class Bar:
    """A progress bar with loss and time left, shown while training runs."""

    def __init__(self, screen: "Screen") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("    tuning ", style="cyan"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("steps  loss {task.fields[loss]}  {task.fields[valid]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=screen,
            transient=True,
        )
        self._task = self._progress.add_task("tuning", total=None, loss="-", valid="", visible=False)

    def __enter__(self) -> "Bar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress.live.is_started:  # else it would leave an empty line
            self._progress.stop()

    def begin(self, steps: int) -> None:
        """Show the bar."""
        self._progress.update(self._task, total=steps, visible=True)
        self._progress.start()

    def step(self, step: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, loss=f"{loss:.3f}")

    def epoch(self, point: "CurvePoint") -> None:
        """Say what the epoch reached."""
        valid = "" if point.valid is None else f", held out {point.valid:.3f}"
        self._progress.update(self._task, valid=valid.removeprefix(", "))
        self._progress.console.print(
            f"            epoch {point.epoch}: loss {point.train_loss:.3f}{valid}", style="dim"
        )
