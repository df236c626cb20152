"""Our metrics as modules of `evaluate`: they live in memory, and need neither a hub nor a cache folder."""

from typing import Any

import datasets
import evaluate

from shopfit.recipe.tasks import TASKS
from shopfit.tasks import metric_of, task_of


class LocalMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric of one number.

    Args:
        metric: its name.
        options: as `evaluate.Metric` takes them.
    """

    def __init__(self, metric: str, **options: Any) -> None:
        self.metric = metric
        task = next(task for task, spec in TASKS.items() if metric in spec.metric_names)
        self._task, self._defined = task_of(task), metric_of(task, metric)
        super().__init__(**{"keep_in_memory": True} | options)

    def _info(self) -> Any:
        columns, metric = self._task.columns, self._defined
        return evaluate.MetricInfo(
            description=metric.what,
            citation=metric.paper,
            inputs_description="\n".join(f"{name}: {what}" for name, what in columns.items()),
            features=datasets.Features({name: _feature(what) for name, what in columns.items()}),
        )

    def _build_data_dir(self) -> str:
        # evaluate makes this folder under ~/.cache even for what is kept in memory
        return str(super()._build_data_dir()) if not self.keep_in_memory else ""

    def _compute(self, *, predictions: Any, references: Any, k: int = 10, **options: Any) -> dict[str, float]:
        found = self._task.from_columns(predictions, references, **options)
        return {self.metric: self._defined.value(found, k)}


def _feature(what: Any) -> Any:
    """A column's type, in the words of `datasets`."""
    match what:
        case str():
            return datasets.Value(what)
        case [inner]:
            return datasets.Sequence(_feature(inner))
        case _:
            return {name: _feature(inner) for name, inner in what.items()}
