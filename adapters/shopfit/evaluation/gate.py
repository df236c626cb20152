"""The gate: whether an adapter may be promoted. It must beat the bare base and every prior on the recipe's metric."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from shopfit.evaluation.intervals import Interval
from shopfit.evaluation.systems import Kind
from shopfit.evaluation.wording import metric_name, number, signed
from shopfit.recipe.schema import LOWER_IS_BETTER, Recipe

_ROUNDING = 1e-9  # a gain that equals the smallest one allowed is a tie, whatever floating point makes of it


@dataclass(frozen=True, slots=True)
class SystemResult:
    """What one system reached.

    Args:
        name: of the system.
        kind: "base", "adapter", "prior" or "baseline".
        metrics: every metric of the task, by its name in recipes.
    """

    name: str
    kind: Kind
    metrics: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says.

    Args:
        promote: whether the adapter may be promoted.
        reason: why, in full sentences, with the numbers.
    """

    promote: bool
    reason: str


UNMEASURED = Verdict(
    False,
    "The adapter is not promoted: it was measured on pairs from the catalog only, which are no shopper's questions. A "
    "test set in a file of its own would tell what it is worth.",
)


def decide(rows: Sequence[SystemResult], recipe: Recipe) -> Verdict:
    """Let an adapter pass or refuse it.

    It passes if it beats the base and every prior by more than `gate.min_gain` on `evaluate.metric`. Ties lose, and so
    does what is undefined. A better baseline does not stop it, but the reason says so.

    Args:
        rows: the results; exactly one adapter, exactly one base, and at least one prior.
        recipe: its `evaluate.metric` and `gate` decide.
    """
    metric, least = recipe.evaluate.metric, recipe.gate.min_gain
    name = metric_name(metric, recipe.evaluate.k)
    adapter = _only(rows, "adapter")
    rivals = [_only(rows, "base"), *(row for row in rows if row.kind == "prior")]
    if len(rivals) == 1:
        raise ValueError("a report has at least one prior")

    undefined = [row for row in (adapter, *rivals) if not row.metrics[metric].defined]
    if undefined:
        what = _listed([_called(row) for row in undefined])
        return Verdict(
            False,
            f"The adapter is not promoted: {name} is undefined for {what} on this test set, so nothing can be said. "
            "A larger test set, with every label or field in it, or another evaluate.metric would help.",
        )

    def lead(row: SystemResult) -> float:
        return gain(metric, adapter.metrics[metric].value, row.metrics[metric].value)

    def beside(row: SystemResult) -> str:
        return f"{_called(row)} ({number(row.metrics[metric].value)}, a gain of {signed(lead(row))})"

    its = f"its {name} of {number(adapter.metrics[metric].value)}"
    asked = f" by more than the {number(least)} that gate.min_gain asks for" if least else ""
    unbeaten = [row for row in rivals if lead(row) <= least + _ROUNDING]
    if unbeaten:
        what = _listed([beside(row) for row in unbeaten])
        return Verdict(False, f"The adapter is not promoted: {its} does not beat {what}{asked}.")

    reason = f"The adapter may be promoted: {its} beats {_listed([beside(row) for row in rivals])}{asked}."
    better = [row for row in rows if row.kind == "baseline" and lead(row) < -_ROUNDING]
    if better:
        what = _listed([f"{row.name} ({number(row.metrics[metric].value)})" for row in better])
        noun, verb = ("baselines", "do") if len(better) > 1 else ("baseline", "does")
        reason += f" Mind that the simple {noun} {what} {verb} better still on these rows."
    return Verdict(True, reason)


def gain(metric: str, first: float, second: float) -> float:
    """By how much the first value is better than the second; nan if either is."""
    return second - first if metric in LOWER_IS_BETTER else first - second


def best(rows: Sequence[SystemResult], metric: str) -> SystemResult | None:
    """The row that is best on a metric, the first of equals; None if it is undefined for all."""
    known = [row for row in rows if row.metrics[metric].defined]
    return max(known, key=lambda row: gain(metric, row.metrics[metric].value, 0.0)) if known else None


def leads(row: SystemResult, rows: Sequence[SystemResult], metric: str) -> bool:
    """Whether a row is as good as the best of `rows` on a metric, and some other row is not."""
    values = [other.metrics[metric].value for other in rows]
    behind = [gain(metric, row.metrics[metric].value, value) for value in values if not math.isnan(value)]
    return row.metrics[metric].defined and min(behind) >= -_ROUNDING and max(behind) > _ROUNDING


def _only(rows: Sequence[SystemResult], kind: Kind) -> SystemResult:
    found = [row for row in rows if row.kind == kind]
    if len(found) != 1:
        raise ValueError(f"a report has one {kind}: got {len(found)}")
    return found[0]


def _called(row: SystemResult) -> str:
    if row.kind == "prior":
        return f"the prior {row.name}"
    return f"the {row.kind}" if row.kind == row.name else f"the {row.kind} {row.name}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
