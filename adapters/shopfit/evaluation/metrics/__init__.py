"""Metrics by name: `measure` for shopfit's own predictions, `module` for `evaluate.combine`.

Each is defined once, in its task's file. Nothing is fetched from a hub, nothing is written to disk.
"""

from collections.abc import Sequence
from typing import Any

from shopfit.errors import RecipeError
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import Predictions, metric_of


def module(name: str) -> Any:
    """A fresh `evaluate.Metric` for one metric.

    Raises:
        RecipeError: if there is no metric of that name.
    """
    if name not in METRICS:
        raise RecipeError(f"there is no metric {name!r}", next_step=f"use one of {', '.join(METRICS)}")
    from shopfit.evaluation.metrics.local import LocalMetric

    return LocalMetric(name)


def measure(predictions: Predictions, names: Sequence[str], k: int = 10) -> dict[str, float]:
    """Measure N predictions.

    Args:
        predictions: of one system on a test set.
        names: metrics of the predictions' task, as the recipe calls them.
        k: cut-off of the @k metrics, at least 1.

    Returns:
        The value of each metric by its name; nan where it is undefined, such as an AUC over one class.

    Raises:
        RecipeError: if a name is no metric of the task.
    """
    metrics = [metric_of(predictions.task, name) for name in dict.fromkeys(names)]
    return {metric.name: metric.value(predictions, k) for metric in metrics}
