"""The report in a terminal, for 80 columns and more."""

from typing import TYPE_CHECKING

from shopfit.evaluation.gate import SystemResult, leads
from shopfit.evaluation.report import Report
from shopfit.evaluation.wording import (
    arrow,
    calibration_told,
    metric_name,
    number,
    retrieval_told,
    signed_with_span,
    span,
    trained_on,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_STYLES = {"adapter": "bold cyan", "base": "", "instant": "", "prior": "", "baseline": ""}


def table(report: Report) -> "Table":
    """Every system's metrics with their 95% intervals below; ★ marks the best of each column."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    metrics = list(report.adapter.metrics)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), header_style="bold")
    shown.add_column("system", no_wrap=True)
    for metric in metrics:
        name = Text(metric_name(metric, report.k).replace("_accuracy", "\naccuracy") + arrow(metric), no_wrap=True)
        if metric == report.metric:
            name.stylize("underline")
        shown.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    for row in report.systems:
        label = Text.assemble((row.name, _STYLES[row.kind]), ("" if row.kind == row.name else f"\n{row.kind}", "dim"))
        shown.add_row(label, *(_cell(row, metric, first=leads(row, report.systems, metric)) for metric in metrics))
    return shown


def show(report: Report, console: "Console | None" = None) -> None:
    """Print the report: title, table, gains, verdict.

    Args:
        report: to print.
        console: where; standard output by default.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    metric = metric_name(report.metric, report.k)
    rows = trained_on(report.n_train, report.n_pretext) if report.n_pretext else f"{report.n_train} training rows"
    rows += f", {report.n_test} test rows ({report.test_kind})"
    console.print(Text.assemble((f"{report.merchant}/{report.recipe}", "bold"), f"  {report.task}, {rows}"))
    console.print(table(report))
    gains = [("the base", report.gain_over_base), (f"the prior {report.best_prior}", report.gain_over_prior)]
    for rival, gain in gains:
        console.print(Text.assemble(f"  {metric} over {rival}: ", (signed_with_span(gain), "bold")))
    found = [f"{kind.replace('_', ' ')} {count}" for kind, count in report.leaks.items() if count]
    if found:
        console.print(Text(f"  Taken out of the training rows, being in the test set: {', '.join(found)}"))
    if contrary := [f"{where} {count}" for where, count in report.contradictions.items() if count]:
        console.print(Text(f"  Rows of the same text with different answers: {', '.join(contrary)}"))
    if report.blend:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in report.blend.items())
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in report.blend_losses.items())
        console.print(Text(f"  Blended of {weights}; loss on held-out examples: {losses}"))
    for one in report.self_training:
        kept = "kept" if one.kept else "dropped"
        told = f"{one.pseudo_labels} pseudo-labels, {metric} {one.before:.3f} -> {one.after:.3f} on held-out examples"
        console.print(Text(f"  Self-training, round {one.number}: {told}, {kept}"))
    if said := calibration_told(report.calibration):
        console.print(Text(f"  {said}"))
    if said := retrieval_told(report.retrieval, report.k):
        console.print(Text(f"  {said}"))
    if report.start_losses:
        losses = ", ".join(f"{name} {loss:.3f}" for name, loss in report.start_losses.items())
        console.print(Text(f"  Started from {report.start}; loss on held-out examples: {losses}"))
    if report.searched is not None:
        console.print(Text(f"  Searched for settings: {report.searched.worded}"))
    console.print(Text(f"  {report.seconds:.0f} s, {report.peak_memory_mb:.0f} MB at most", "dim"))
    mark, style = ("✗", "bold red") if report.verdict.refused else ("?", "bold yellow")
    mark, style = ("✓", "bold green") if report.verdict.promote else (mark, style)
    console.print()
    console.print(Text.assemble((f"{mark} ", style), report.verdict.reason))


def _cell(row: SystemResult, metric: str, *, first: bool) -> "Text":
    from rich.text import Text

    interval = row.metrics[metric]
    value = ("★ " if first else "") + number(interval.value)
    ends = span(interval, 2).replace("0.", ".")  # room for six metrics in 80 columns
    return Text.assemble((value, "bold green" if first else _STYLES[row.kind]), (f"\n{ends}", "dim"))
