"""A learning curve as a picture: the metric against the number of examples, with the spread over seeds."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shopfit.evaluation.learning_curve import LearningCurve, Standing
from shopfit.evaluation.picture import COLOURS, GRID, INK, QUIET, plain_axes, sheet
from shopfit.evaluation.wording import metric_name, number
from shopfit.recipe.tasks import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shopfit.tasks import SystemKind

_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))  # of the first, second and third of a kind


def plot_learning(curve: LearningCurve, path: Path) -> None:
    """Draw a learning curve as a PNG of about 1350 x 750 pixels.

    Args:
        curve: to draw.
        path: of the PNG; replaced if it is there.
    """
    with sheet(path, (9.0, 5.0), f"{curve.merchant}/{curve.recipe}: how many examples") as figure:
        axes = figure.subplots()
        name, seeds = metric_name(curve.metric, curve.k), len(curve.seeds)
        lower = ", lower is better" if METRICS[curve.metric].lower_is_better else ""
        over = f", mean and spread over {seeds} seeds" if seeds > 1 else ""
        plain_axes(axes, f"{name} on {curve.n_test} test rows{over}{lower}")
        places: dict[SystemKind, int] = {}
        for system, kind in sorted(curve.names, key=lambda one: one[1] == "adapter"):  # the adapter above the others
            style: Any = (0, (3, 3)) if kind == "base" else _STYLES[places.get(kind, 0) % len(_STYLES)]
            places[kind] = places.get(kind, 0) + 1
            known = [(point.shots, one) for point in curve.points if (one := point.of(system)) is not None]
            _draw(axes, system, [(shots, one) for shots, one in known if not math.isnan(one.mean)], style)
        _mark(axes, curve)
        _scale(axes, [point.shots for point in curve.points])
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
            ncols=5,
            frameon=False,
            fontsize=9.5,
            labelcolor=QUIET,
            handlelength=2.2,
        )


def _draw(axes: "Axes", name: str, known: list[tuple[int, Standing]], style: Any) -> None:
    if not known:
        return
    kind = known[0][1].kind
    shots, means = [number for number, _ in known], [one.mean for _, one in known]
    ours = kind == "adapter"
    axes.plot(
        shots,
        means,
        color=COLOURS[kind],
        linestyle=style,
        marker="" if kind == "base" else "o",
        linewidth=2.2 if ours else 1.5,
        markersize=5 if ours else 3.5,
        label=name,
        zorder=3 if ours else 2,
    )
    if any(one.spread > 0 for _, one in known):
        low, high = [one.mean - one.spread for _, one in known], [one.mean + one.spread for _, one in known]
        axes.fill_between(shots, low, high, color=COLOURS[kind], alpha=0.2 if ours else 0.1, linewidth=0)


def _mark(axes: "Axes", curve: LearningCurve) -> None:
    """A ring at the number to ask for."""
    point = next(point for point in curve.points if point.shots == curve.advice.shots)
    reached = next(one for one in point.systems if one.kind == "adapter")
    if math.isnan(reached.mean):
        return
    ring = {"markersize": 12, "markerfacecolor": "none", "markeredgecolor": COLOURS["adapter"], "markeredgewidth": 1.6}
    axes.plot([point.shots], [reached.mean], "o", zorder=4, **ring)  # type: ignore[arg-type]
    more = "more than " if curve.advice.rising else ""
    title = f"{more}{point.shots} examples: {number(reached.mean)}"
    axes.set_title(title, loc="right", fontsize=9.5, color=COLOURS["adapter"], pad=9)


def _scale(axes: "Axes", shots: list[int]) -> None:
    """Logarithmic, with room for 0."""
    from matplotlib.ticker import NullLocator

    least = min((number for number in shots if number), default=1)
    axes.set_xscale("symlog", linthresh=least, base=2, linscale=0.5)
    axes.set_xticks(shots, [str(number) for number in shots])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("examples to learn from", color=INK, fontsize=9.5)
    axes.margins(x=0.04, y=0.12)
