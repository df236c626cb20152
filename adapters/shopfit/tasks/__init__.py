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
from shopfit.tasks.rate_predictions import RatePredictions
from shopfit.tasks.scored import ClosedTask, ScoredTask
from shopfit.tasks.system import Learned, System, SystemKind
from shopfit.tasks.task import Pool, TaskType, TrainingQuestion

__all__ = [
    "ChoosePredictions",
    "ClosedTask",
    "GeneratePredictions",
    "Learned",
    "Metric",
    "Pool",
    "Predictions",
    "RankPredictions",
    "RatePredictions",
    "ScoredTask",
    "System",
    "SystemKind",
    "TaskType",
    "TrainingQuestion",
    "Weighted",
    "closed_task_of",
    "metric_of",
    "pooled",
    "scored_task_of",
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


def scored_task_of(name: Task) -> ScoredTask:
    """The task of that name, whose answers are scored."""
    task = task_of(name)
    assert isinstance(task, ScoredTask), f"the answers of {name} are written"
    return task


def closed_task_of(name: Task) -> ClosedTask:
    """The task of that name, whose questions all have the same answers."""
    task = task_of(name)
    assert isinstance(task, ClosedTask), f"every question of {name} has answers of its own"
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
