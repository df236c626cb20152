"""`shopfit compare`: two versions of an adapter on the same rows."""

from typing import TYPE_CHECKING

import click

from shopfit.cli.arguments import PLACE, TEXT
from shopfit.cli.terminal import as_json, console, counted, merchant_of, only_prints, print_json
from shopfit.libraries import quiet

if TYPE_CHECKING:
    from shopfit.cli.screen import Screen
    from shopfit.comparing import Comparison

_SHOWN = 20  # rows that a terminal shows


@click.command(short_help="Put a merchant's test rows to two versions, and show where they differ.")
@click.argument("first", type=TEXT)
@click.argument("second", type=TEXT)
@click.option(
    "--data",
    type=PLACE,
    metavar="FOLDER",
    help="The merchant's folder; by default what came through the console, or the sample merchant of that name.",
)
@as_json
@only_prints
def command(first: str, second: str, data: str | None, as_json: bool) -> None:
    """Compare SECOND with FIRST, two versions of one merchant's recipe, on the merchant's test set. Changes nothing.

    Each metric has its 95% interval, and so has the gain of the second version over the first on the same rows.
    """
    from shopfit.registry import Reference

    Reference.parse(second)
    merchant = merchant_of(Reference.parse(first).merchant, data)
    quiet()
    from shopfit.comparing import compare_versions
    from shopfit.settings import Settings

    found = compare_versions(first, second, merchant, settings=Settings.from_environment())
    if as_json:
        print_json(found)
    else:
        _show(found, console())


def _show(found: "Comparison", screen: "Screen") -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from shopfit.evaluation.wording import arrow, metric_name, number, signed_with_span, span

    screen.print(f"{found.second.version} beside {found.first.version}, on {counted(found.rows, 'test row')}")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("metric", found.first.version, found.second.version):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for metric in found.first.metrics:
        sides = [side.metrics[metric] for side in (found.first, found.second)]
        values = [Text.assemble(number(one.value), (f"\n{span(one)}", "dim")) for one in sides]
        table.add_row(metric_name(metric, found.k) + arrow(metric), *values)
    screen.print(table)
    for side in (found.first, found.second):
        if side.learned:
            screen.row("learned", f"{side.version} has learned from {side.learned:,} of these rows")
    more = "" if found.proven or found.wanted_rows is None else f"; about {found.wanted_rows:,} rows would prove it"
    proven = "proven" if found.proven else "not proven"
    screen.row("gain", f"{signed_with_span(found.gain)} on {metric_name(found.metric, found.k)}, {proven}{more}")
    counts = found.counts
    screen.row("rows", f"first better {counts['first']}, second better {counts['second']}, both right {counts['both']}")
    screen.row("differ", counted(found.differing, "row"))
    for row in found.different[:_SHOWN]:
        screen.print()
        screen.print(" ".join(row.fields.values())[:300], style="dim")
        screen.print(f"  right: {row.wanted}")
        for side, said in ((found.first, row.first), (found.second, row.second)):
            sure = "" if said.sure is None else f"  {said.sure:.0%}"
            screen.print(f"  {'✓' if said.right else '✗'} {side.version}: {said.said}{sure}")
