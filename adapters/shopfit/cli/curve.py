"""`shopfit curve`: how many examples to ask a merchant for."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shopfit.cli.arguments import PLACE
from shopfit.cli.terminal import (
    announce,
    as_json,
    check_home,
    check_writable,
    console,
    counted,
    keep,
    merchant_of,
    only_prints,
    print_json,
    recipe_options,
)
from shopfit.documents import document
from shopfit.libraries import quiet, share_cores

if TYPE_CHECKING:
    from rich.table import Table

    from shopfit.evaluation.learning_curve import LearningCurve


@click.command(short_help="Measure a recipe against the number of examples; register nothing.")
@recipe_options
@click.option("--shots", default="0,4,8,16,32,64", show_default=True, help="Numbers of examples, by commas.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=3, show_default=True, help="Draws of each number.")
@click.option("--out", type=PLACE, metavar="FILE.png", help="The picture; by default under SHOPFIT_HOME/curves.")
@as_json
@only_prints
def command(
    merchant: str,
    recipe: str,
    data: str | None,
    overrides: tuple[str, ...],
    shots: str,
    seeds: int,
    out: str | None,
    as_json: bool,
) -> None:
    """Train RECIPE on few and on more of MERCHANT's examples, and say how many are worth asking for.

    Every number is drawn by several seeds. The table and the picture show the adapter beside the bare base and every
    prior and baseline fitted to the same examples. Nothing is registered.
    """
    from shopfit.recipe.loading import load_recipe

    loaded = load_recipe(recipe, overrides=overrides)
    opened, numbers = merchant_of(merchant, data), _numbers(shots)
    from shopfit.settings import Settings, curve_picture

    settings = Settings.from_environment()
    check_home()
    picture = _picture(out, curve_picture(settings.home, merchant, loaded.name))
    share_cores()
    quiet()
    from shopfit.curve import learning_curve

    screen = console(to_stderr=as_json)
    curve = learning_curve(opened, loaded, numbers, seeds, settings=settings, reporter=announce(screen))
    if as_json:
        print_json(document(curve) | {"picture": picture})
    else:
        screen.print()
        screen.print(table(curve))
        screen.print(curve.advice.text)
    _draw(curve, picture)  # last, so that a full disk costs the picture and no numbers
    keep(f"the picture is {picture}")
    if not as_json:
        screen.print()
        screen.row("picture", picture)


def _draw(curve: "LearningCurve", picture: Path) -> None:
    from shopfit.errors import ShopfitError
    from shopfit.evaluation.learning_curve_picture import plot_learning

    try:
        plot_learning(curve, picture)
    except OSError as error:
        raise ShopfitError(
            f"the picture {picture} cannot be written: {error}", next_step="the numbers above hold; free some space"
        ) from error


def table(curve: "LearningCurve") -> "Table":
    """Systems down, numbers of examples across, each with its spread below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shopfit.cli.streams import one_line
    from shopfit.evaluation.wording import arrow, metric_name, number

    seeds = f", spread over {len(curve.seeds)} seeds" if len(curve.seeds) > 1 else ""
    title = f"{metric_name(curve.metric, curve.k)}{arrow(curve.metric)} on {counted(curve.n_test, 'test row')}{seeds}"
    shown = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", padding=(0, 1, 0, 0))
    shown.add_column("examples", no_wrap=True)
    for point in curve.points:
        shown.add_column(str(point.shots), justify="right", no_wrap=True)
    for name, kind in curve.names:
        cells = []
        for point in curve.points:
            one = point.of(name)
            spread = "" if one is None or len(one.values) == 1 else f"\n±{number(one.spread)}"
            cells.append(Text("-" if one is None else number(one.mean) + spread))
        called = Text(one_line(name) + ("" if kind == name else f"\n{kind}"))
        shown.add_row(called, *cells, style="bold cyan" if kind == "adapter" else "")
    if curve.without != "base":
        shown.caption = Text(f"At 0 examples the adapter is the starter {one_line(curve.without)}.")
    return shown


def _numbers(text: str) -> list[int]:
    """`0,4,8` as numbers.

    Raises:
        ShopfitError: if it is anything else.
    """
    from shopfit.errors import ShopfitError

    if not re.fullmatch(r" *[0-9]{1,7} *(, *[0-9]{1,7} *)*", text):
        raise ShopfitError(
            f"--shots {text!r} is no list of whole numbers from 0 to 9999999",
            next_step="separate them by commas, such as 0,4,8,16",
        )
    return [int(part) for part in text.split(",")]


def _picture(out: str | None, default: Path) -> Path:
    """Where the picture goes, checked before anything is trained.

    Raises:
        ShopfitError: if nothing can be written there.
    """
    from shopfit.errors import ShopfitError
    from shopfit.settings import expanded

    if out is None:
        check_writable(default.parent, "name another place with --out FILE.png")
        return default
    path = expanded(out)
    if path.suffix != ".png" or path.is_dir():
        raise ShopfitError(f"--out {out} is not the name of a PNG", next_step="give a file that ends in .png")
    check_writable(path.parent, "give one that is there, and that this user may write")
    return path
