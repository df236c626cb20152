"""The metrics of a report, each a local `evaluate.Metric`: nothing is fetched from a hub, nothing is written to disk.

`measure` is the door for shopfit's own predictions. `module` gives the single modules, for `evaluate.combine`.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from shopfit.errors import RecipeError
from shopfit.evaluation.metrics.answers import as_text
from shopfit.evaluation.predictions import ChoosePredictions, Predictions, RankPredictions
from shopfit.recipe.tasks import TASKS, Task

MODULES = {
    "accuracy": "choose.Accuracy",
    "macro_f1": "choose.MacroF1",
    "balanced_accuracy": "choose.BalancedAccuracy",
    "auc": "choose.Auc",
    "log_loss": "choose.LogLoss",
    "ece": "choose.Ece",
    "ndcg@k": "rank.Ndcg",
    "hr@k": "rank.HitRate",
    "mrr": "rank.Mrr",
    "coverage@k": "rank.Coverage",
    "valid_json": "generate.ValidJson",
    "field_f1": "generate.FieldF1",
    "exact_match": "generate.ExactMatch",
    "token_f1": "generate.TokenF1",
}
"""Metric name: where its module is, imported only when it is used."""


def module(name: str) -> Any:
    """A fresh `evaluate.Metric` for one metric.

    Raises:
        RecipeError: if there is no metric of that name.
    """
    if name not in MODULES:
        raise RecipeError(f"there is no metric {name!r}", next_step=f"use one of {', '.join(MODULES)}")
    file, _, cls = MODULES[name].partition(".")
    return getattr(importlib.import_module(f"{__name__}.{file}"), cls)()


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
    task = task_of(predictions)
    for name in names:
        check_metric(name, task)
    if not names:
        return {}
    import evaluate

    modules = evaluate.combine([module(name) for name in dict.fromkeys(names)])
    return {name: float(value) for name, value in modules.compute(**_inputs(predictions, k)).items()}


def task_of(predictions: Predictions) -> Task:
    """The task whose predictions these are."""
    if isinstance(predictions, ChoosePredictions):
        return "choose"
    return "rank" if isinstance(predictions, RankPredictions) else "generate"


def check_metric(name: str, task: Task) -> None:
    """Raise RecipeError unless `name` is a metric of `task`."""
    if name not in TASKS[task].metric_names:
        allowed = ", ".join(TASKS[task].metric_names)
        raise RecipeError(f"{name!r} is not a metric of task {task}", next_step=f"use one of {allowed}")


def _inputs(predictions: Predictions, k: int) -> dict[str, Any]:
    if isinstance(predictions, ChoosePredictions):
        return {"predictions": list(predictions.probabilities), "references": predictions.gold.tolist()}
    if isinstance(predictions, RankPredictions):
        rankings = zip(predictions.candidates, predictions.scores, strict=True)
        return {
            "predictions": [{"items": list(items), "scores": scores} for items, scores in rankings],
            "references": [sorted(relevant) for relevant in predictions.relevant],
            "k": k,
            "catalog_size": predictions.catalog_size,
        }
    return {"predictions": list(predictions.outputs), "references": [as_text(gold) for gold in predictions.gold]}
