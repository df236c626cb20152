"""The tasks, a file each: its training answers, loss, predictions and metrics. `task_of` gives one by its name.

A new task is a file here and an entry in the recipe's table; a type check names every place that does not know it.
"""

from typing import assert_never

from shopfit.recipe.tasks import Task
from shopfit.tasks.choose import Choose, ChoosePredictions
from shopfit.tasks.generate import Generate, GeneratePredictions
from shopfit.tasks.metric import DEFINED, Metric, Weighted, metric_of
from shopfit.tasks.predictions import Predictions, pooled
from shopfit.tasks.rank import Rank, RankPredictions
from shopfit.tasks.task import Pool, TaskType, TrainingQuestion

__all__ = [
    "DEFINED",
    "ChoosePredictions",
    "GeneratePredictions",
    "Metric",
    "Pool",
    "Predictions",
    "RankPredictions",
    "TaskType",
    "TrainingQuestion",
    "Weighted",
    "metric_of",
    "pooled",
    "task_of",
]

_CHOOSE, _RANK, _GENERATE = Choose(), Rank(), Generate()


def task_of(name: Task) -> TaskType:
    """The task of that name."""
    match name:
        case "choose":
            return _CHOOSE
        case "rank":
            return _RANK
        case "generate":
            return _GENERATE
        case _:
            assert_never(name)
