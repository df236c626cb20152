"""`shopfit adapter`: the main job."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from shopfit.cli.arguments import PLACE
from shopfit.cli.streams import holds
from shopfit.cli.terminal import (
    actor,
    announce,
    as_json,
    check_home,
    check_named,
    console,
    json_text,
    keep,
    kept_so_far,
    merchant_of,
    print_json,
    recipe_options,
)
from shopfit.cli.ticker import Ticker
from shopfit.errors import ShopfitError
from shopfit.libraries import crowded, quiet, share_cores

if TYPE_CHECKING:
    from shopfit.cli.screen import Screen
    from shopfit.evaluation import CurvePoint
    from shopfit.merchant.examples import Fields
    from shopfit.merchant.merchant import Merchant
    from shopfit.onboarding import Onboarded
    from shopfit.recipe.schema import Recipe
    from shopfit.runs.folder import Run
    from shopfit.runs.recorder import Record
    from shopfit.tune.checkpoints import Checkpoints
    from shopfit.tune.reporter import Reporter

REFUSED = 3
_LONGEST, _MOST_ITEMS = 100, 3  # characters of a text, and items of a list, in a command to try


@click.command(short_help="Train, evaluate and register a merchant's adapter.")
@recipe_options
@click.option(
    "--search",
    "trials",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Try N settings (method, rank, learning rate, epochs) by cross-validation first, and take the best.",
)
@click.option(
    "--instant/--no-instant",
    default=None,
    help="Stop after the version that needs no training, or make none. By default it is registered first, unless the "
    "gate refuses it, and training goes on.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with a run of this that was ended: its trainings are not begun anew."
)
@click.option("--run", "run_folder", type=PLACE, hidden=True, help="The folder of a run that waited in the queue.")
@as_json
def command(
    merchant: str,
    recipe: str,
    data: str | None,
    overrides: tuple[str, ...],
    trials: int | None,
    instant: bool | None,
    resume: bool,
    run_folder: str | None,
    as_json: bool,
) -> None:
    """Train an adapter for MERCHANT with RECIPE, evaluate it, and register it as a new version.

    RECIPE is the name of a shipped recipe or the path of a YAML file. The gate promotes the version if it is proven to
    beat the bare base and every prior. If it beats them but that may be chance, it becomes @candidate; else it is
    registered as refused, and the exit status is 3 unless a version that needed no training is there.

    The best of what needs no training is a version too, after seconds, unless the gate refuses it. What is trained must
    beat it.

    A run that is ended, even killed, is gone on with by the same command and --resume, and comes to the same adapter.
    """
    from shopfit.recipe.loading import load_recipe

    if instant and trials is not None:
        raise click.UsageError("--search tries how to train, and --instant trains nothing: give one of them")
    if instant and resume:
        raise click.UsageError("--resume goes on with trainings, and --instant trains nothing: give one of them")
    loaded = load_recipe(recipe, overrides=(*overrides, *(["tune.steps=0"] if instant else [])))
    if trials is not None and loaded.tune.steps == 0:
        raise click.UsageError("--search tries how to train, and tune.steps is 0: leave one of them out")
    opened = merchant_of(merchant, data)
    check_named(opened, loaded, overrides)
    check_home()
    share_cores()
    quiet()
    from shopfit.onboarding import onboard
    from shopfit.runs.recorder import recording
    from shopfit.settings import Settings, checkpoints
    from shopfit.tune.checkpoints import Checkpoints

    screen = console(to_stderr=as_json)

    say = announce(screen)
    if warning := crowded(os.getloadavg()[0], os.cpu_count() or 1):
        say("machine", warning)
    settings = Settings.from_environment()
    kept = Checkpoints(checkpoints(settings.home, opened.name) / loaded.name)
    again = ["shopfit", "adapter", merchant, recipe, *(["--data", data] if data else [])]
    again += [word for override in overrides for word in ("--set", override)]
    again += [
        *(["--search", str(trials)] if trials else []),
        *(["--no-instant"] if instant is False else []),
        "--resume",
    ]
    told = ["--instant"] if instant else []
    run = _run(opened, recipe, [*again[4:-1], *told], settings.home, run_folder, say)
    with (
        Bar(screen) as bar,
        Ticker(screen, say) as ticker,
        _offering(again, kept),
        recording(run, ticker, bar) as record,
    ):
        done = onboard(
            opened,
            loaded,
            settings=settings,
            actor=actor() if run is None else run.asked.actor,
            trials=trials,
            instant=instant is None,
            resume=resume,
            promotes=run is None or run.asked.promotes,
            reporter=record,
            callback=record,
            published=lambda first: _serves(screen, first, record),
        )
        if done is not None:
            record.finish(done)
    if done is None:
        return
    keep(f"{done.version.name} is registered" + (", and is @production" if done.report.verdict.promote else ""))
    if as_json:
        verdict = done.report.verdict
        answer = {
            "version": done.version,
            "promoted": "production" in done.version.aliases,
            "candidate": verdict.candidate,
            "reason": verdict.reason,
            "bundle": done.bundle.folder,
            "report": done.report,
            "instant": None if done.instant is None else done.instant.version,
        }
        print_json(answer)
    else:
        _tell(screen, done, loaded)
    if done.report.verdict.refused and done.instant is None:
        raise click.exceptions.Exit(REFUSED)


@contextmanager
def _offering(again: list[str], kept: "Checkpoints") -> Iterator[None]:
    """A context for a run; if it is interrupted and trainings are kept, the command is named that goes on with them."""
    try:
        yield
    except KeyboardInterrupt:
        if kept.there:
            keep(f"{kept_so_far() or 'nothing was registered'}; to go on with the training, run `{shlex.join(again)}`")
        raise


def _run(
    merchant: "Merchant", recipe: str, arguments: list[str], home: Path, folder: str | None, say: "Reporter"
) -> "Run | None":
    """The run that waited in the queue, or a new one; None where none is recorded, as by a launcher's others."""
    from shopfit.runs import create_run, run_in

    if os.environ.get("RANK", "0") != "0":
        return None
    if folder is not None:
        return run_in(Path(folder))
    named = str(Path(recipe).absolute()) if recipe.endswith((".yaml", ".yml")) else recipe
    placed = [str(Path(one).absolute()) if before == "--data" else one for before, one in pairwise(["", *arguments])]
    try:
        return create_run(home, "adapter", merchant.name, named, placed, actor=actor())
    except ShopfitError as error:  # a full disk costs the record, and not the run
        say("run", f"is not recorded: {error.message}")
        return None


def _serves(screen: "Screen", first: "Onboarded", record: "Record") -> None:
    """Say what the instant version is worth, as soon as it is there."""
    record.published(first, instant=True)
    from shopfit.evaluation.wording import metric_name, number

    report = first.report
    value = report.adapter.metrics[report.metric].value
    state = "promoted to @production" if report.verdict.promote else "registered as @candidate"
    made = f"{metric_name(report.metric, report.k)} {number(value)}, in {report.seconds:.1f} s"
    screen.row("instant", f"{first.version.name}, {state}: {made}; training goes on")


def _tell(screen: "Screen", done: "Onboarded", recipe: "Recipe") -> None:
    from shopfit.evaluation import show

    screen.print()
    show(done.report, screen)
    verdict = done.report.verdict
    serving = done if done.instant is None or not verdict.refused else done.instant
    of_alias = serving.report.verdict.promote and (verdict.promote or serving is not done)
    reference = f"{done.version.merchant}/{done.version.recipe}" if of_alias else serving.version.name
    state = "promoted to @production" if verdict.promote else "registered as refused; @production is unchanged"
    state = "registered as @candidate; @production is unchanged" if verdict.candidate else state
    screen.print()
    screen.row("version", f"{done.version.name}, {state}")
    screen.row("bundle", done.bundle.folder)
    if serving is not done:
        screen.row("serves", f"{serving.version.name}, the instant version, which training did not make better")
    screen.row("try it", try_it(reference, recipe, done.asked))
    if verdict.candidate:
        screen.row("promote", f"shopfit registry promote {done.version.name}")


def try_it(reference: str, recipe: "Recipe", example: "Fields") -> str:
    """A command that asks the adapter what an example asks, in one line that a shell can run.

    Args:
        reference: of the version.
        recipe: its prompt says which fields are asked.
        example: the fields; long texts and lists are cut short.
    """
    fields = {name: _short(example[name]) for name in recipe.fields if name in example}
    texts = [name for name in recipe.fields if name not in recipe.data.item_fields]
    main = fields.get(texts[0]) if texts and len(fields) == 1 else None
    as_it_is = isinstance(main, str) and main.isprintable() and holds(main) and not main.startswith(("{", "-"))
    asked = str(main) if as_it_is else json_text(fields)
    top = " --top 5" if recipe.spec.items else ""
    return f"shopfit predict {reference} {shlex.quote(asked)}{top}"


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()[:_LONGEST].rstrip()
    return value[-_MOST_ITEMS:] if isinstance(value, list) else value


class Bar:
    """A progress bar with loss and time left, shown while training runs."""

    def __init__(self, screen: "Screen") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from shopfit.tune.training_callback import Heartbeat

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
        self._spoken = None if screen.is_terminal else Heartbeat(announce(screen), "tuning", "so far")

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
        if self._spoken is not None:
            self._spoken.begin(steps)

    def step(self, step: int, loss: float) -> None:
        """Move the bar."""
        self._progress.update(self._task, completed=step, loss=f"{loss:.3f}")
        if self._spoken is not None:
            self._spoken.step(step, loss)

    def epoch(self, point: "CurvePoint") -> None:
        """Say what the epoch reached."""
        valid = "" if point.valid is None else f", held out {point.valid:.3f}"
        self._progress.update(self._task, valid=valid.removeprefix(", "))
        self._progress.console.print(
            f"            epoch {point.epoch}: loss {point.train_loss:.3f}{valid}", style="dim"
        )
