"""The report as a picture: the learning curve on the left, the systems with their intervals on the right."""

import math
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfit.evaluation.gate import SystemResult
from shopfit.evaluation.report import Report
from shopfit.evaluation.wording import metric_name, number
from shopfit.recipe.tasks import METRICS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e3e7eb"
COLOURS = {"adapter": "#0f766e", "base": "#64748b", "instant": "#7c6fae", "baseline": "#93a4b8", "prior": "#d3a24a"}
_LOSS, _BEST = "#b45309", "#0f766e"


def plot(report: Report, path: Path) -> None:
    """Draw the report as a PNG of about 1700 x 750 pixels.

    Args:
        report: to draw.
        path: of the PNG; replaced if it is there.
    """
    verdict = "is not promoted" if report.verdict.refused else "is a candidate"
    verdict = "may be promoted" if report.verdict.promote else verdict
    with sheet(path, (11.5, 5.0), f"{report.merchant}/{report.recipe}: the adapter {verdict}") as figure:
        halves: Any = figure.subfigures(1, 2, width_ratios=(1, 1.3), wspace=0.04)
        _draw_curve(halves[0], report)
        _draw_systems(halves[1].subplots(), report)


@contextmanager
def sheet(path: Path, inches: tuple[float, float], title: str) -> "Iterator[Figure]":
    """An empty figure of 150 dots an inch with a title, written as a PNG when the `with` ends.

    Args:
        path: of the PNG; replaced if it is there.
        inches: width and height.
        title: in bold above it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # objects only: pyplot would keep global state, and choose a window system
    layout = ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12)
    figure = Figure(figsize=inches, dpi=150, facecolor="white", layout=layout)
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)
    yield figure
    canvas.print_figure(path, format="png", metadata={"Software": None})


def _draw_curve(figure: "SubFigure", report: Report) -> None:
    epochs = [point.epoch for point in report.curve]
    losses = [point.train_loss for point in report.curve]
    valid = [(point.epoch, point.valid) for point in report.curve if point.valid is not None]
    if not epochs:
        axes = figure.subplots()
        plain_axes(axes, "Learning curve")
        axes.text(0.5, 0.5, "no epochs recorded", transform=axes.transAxes, ha="center", color=QUIET)
        axes.set(xticks=[], yticks=[])
        return
    panels = figure.subplots(2, 1, sharex=True) if valid else [figure.subplots()]
    if valid:
        chosen = max(valid, key=lambda point: METRICS[report.metric].merit(point[1]))
        _draw_line(panels[0], [x for x, _ in valid], [y for _, y in valid], _BEST)
        plain_axes(panels[0], f"{metric_name(report.metric, report.k)} on held-out training rows")
        panels[0].plot(*chosen, "o", markersize=11, markerfacecolor="none", markeredgecolor=_BEST, markeredgewidth=1.6)
        best = f"best {number(chosen[1])}, epoch {chosen[0]}"
        panels[0].set_title(best, loc="right", fontsize=9.5, color=_BEST, pad=9)
        panels[0].spines["bottom"].set_visible(False)
        panels[0].margins(y=0.18)
    _draw_line(panels[-1], epochs, losses, _LOSS)
    plain_axes(panels[-1], "Training loss")
    panels[-1].set_xlabel("epoch", color=QUIET, fontsize=9.5)
    panels[-1].set_xticks(epochs if len(epochs) <= 12 else epochs[:: math.ceil(len(epochs) / 10)])
    panels[-1].set_xlim(epochs[0] - 0.35, epochs[-1] + 0.35)
    panels[-1].margins(y=0.15)


def _draw_line(axes: "Axes", x: list[int], y: list[float], colour: str) -> None:
    axes.plot(x, y, "-o", color=colour, linewidth=2, markersize=4.5)
    axes.grid(axis="y", color=GRID, linewidth=0.8)


def _draw_systems(axes: "Axes", report: Report) -> None:
    metric = METRICS[report.metric]
    known = [row for row in report.systems if row.metrics[report.metric].defined]
    rows = sorted(known, key=lambda row: -metric.merit(row.metrics[metric.name].value))
    lower = ", lower is better" if metric.lower_is_better else ""
    name = metric_name(report.metric, report.k)
    plain_axes(axes, f"{name} on {report.n_test} test rows, with 95% intervals{lower}")
    if not rows:
        axes.text(0.5, 0.5, f"{name} is undefined here", transform=axes.transAxes, ha="center", color=QUIET)
        axes.set(xticks=[], yticks=[])
        return
    right_end = max(_end(row, report.metric) for row in rows)
    for place, row in enumerate(rows):
        _draw_bar(axes, place, row, report.metric, right_end)
    for base in (row for row in rows if row.kind == "base"):
        value = base.metrics[report.metric].value
        axes.axvline(value, color=COLOURS["base"], linewidth=1.1, linestyle=(0, (3, 3)), zorder=1)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(max(len(rows), 4) - 0.45, -0.6)
    axes.set_xlim(0, right_end * 1.17 or 1)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.tick_params(axis="y", labelsize=10.5, labelcolor=INK)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_fontweight("bold" if row.kind == "adapter" else "normal")
    _draw_legend(axes, rows)


def _end(row: SystemResult, metric: str) -> float:
    interval = row.metrics[metric]
    return interval.value if math.isnan(interval.high) else interval.high


def _draw_bar(axes: "Axes", place: int, row: SystemResult, metric: str, right_end: float) -> None:
    interval = row.metrics[metric]
    axes.barh(place, interval.value, height=0.56, color=COLOURS[row.kind], zorder=2)
    if not math.isnan(interval.low):
        reach = [[interval.value - interval.low], [interval.high - interval.value]]
        axes.errorbar(interval.value, place, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.4, capsize=4, zorder=3)
    axes.text(
        _end(row, metric) + right_end * 0.02,
        place,
        number(interval.value),
        va="center",
        fontsize=10.5,
        color=INK,
        fontweight="bold" if row.kind == "adapter" else "normal",
    )


def _draw_legend(axes: "Axes", rows: list[SystemResult]) -> None:
    from matplotlib.patches import Patch

    kinds = [kind for kind in COLOURS if any(row.kind == kind for row in rows)]
    axes.legend(
        handles=[Patch(color=COLOURS[kind], label=kind) for kind in kinds],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.09),
        ncols=len(kinds),
        frameon=False,
        fontsize=9.5,
        labelcolor=QUIET,
        handlelength=1.1,
        handleheight=1.0,
    )


def plain_axes(axes: Any, title: str) -> None:
    """No frame, a quiet axis, a title on the left."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(colors=QUIET, labelsize=9, length=0)
    axes.set_axisbelow(True)
