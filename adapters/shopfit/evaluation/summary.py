"""What a line about a version says of its report."""

import math
from typing import Any

from shopfit.evaluation.gate import SystemResult, best
from shopfit.evaluation.report import Report
from shopfit.recipe.tasks import METRICS


def summary(report: Report) -> dict[str, Any]:
    """A report in short, as plain JSON; undefined numbers are null.

    Args:
        report: of a version.

    Returns:
        metric, k, the adapter's value with its interval (value, low, high), whether higher is better, the best simple
        baseline or prior (rival: name, kind, value, low, high; null without), by how much the adapter is better than it
        (lead), the verdict (promoted, candidate, reason), the numbers of examples, and the seconds it took.
    """
    metric = report.metric
    simple = [row for row in report.systems if row.kind in ("baseline", "prior")]
    rival = best(simple, metric)
    value = report.adapter.metrics[metric].value
    lead = None if rival is None else METRICS[metric].gain(value, rival.metrics[metric].value)
    return {
        "metric": metric,
        "k": report.k,
        "higher": METRICS[metric].gain(1.0, 0.0) > 0,
        **_numbers(report.adapter, metric),
        "rival": None if rival is None else {"name": rival.name, "kind": rival.kind, **_numbers(rival, metric)},
        "lead": _plain(lead),
        "promoted": report.verdict.promote,
        "candidate": report.verdict.candidate,
        "reason": report.verdict.reason,
        "n_train": report.n_train,
        "n_test": report.n_test,
        "seconds": _plain(report.seconds),
    }


def _numbers(row: SystemResult, metric: str) -> dict[str, float | None]:
    found = row.metrics[metric]
    return {"value": _plain(found.value), "low": _plain(found.low), "high": _plain(found.high)}


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
