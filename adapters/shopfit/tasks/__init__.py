"""The tasks, a file each: `task_of` gives one by its name.

A new task is a file here, named after it, with its `TASK`, and an entry in the recipe's table.
"""

from functools import cache
from importlib import import_module

from shopfit.errors import RecipeError
from shopfit.recipe.tasks import TASKS, Task
from shopfit.tasks.choose_predictions import ChoosePredictions
from shopfit.tasks.generate import GeneratePredictions
from shopfit.tasks.metric import DEFINED, Metric, Weighted
from shopfit.tasks.predictions import Predictions, pooled
from shopfit.tasks.rank import RankPredictions
from shopfit.tasks.system import Kind, Learned, System
from shopfit.tasks.task import Pool, TaskType, TrainingQuestion

__all__ = [
    "ChoosePredictions",
    "GeneratePredictions",
    "Kind",
    "Learned",
    "Metric",
    "Pool",
    "Predictions",
    "RankPredictions",
    "System",
    "TaskType",
    "TrainingQuestion",
    "Weighted",
    "metric_of",
    "pooled",
    "task_of",
]


@cache
def task_of(name: Task) -> TaskType:
    """The task of that name.

    Raises:
        KeyError: if the table has no such task.
    """
    TASKS[name]
    task: TaskType = import_module(f"shopfit.tasks.{name}").TASK
    return task


def metric_of(task: Task, name: str) -> Metric:  # type: ignore[type-arg]
    """A task's metric.

    Raises:
        RecipeError: if it is no metric of the task.
    """
    if name not in TASKS[task].metric_names:
        allowed = ", ".join(TASKS[task].metric_names)
        raise RecipeError(f"{name!r} is not a metric of task {task}", next_step=f"use one of {allowed}")
    task_of(task)  # its file defines them
    return DEFINED[name]
