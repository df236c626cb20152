"""What the rooms above ask of a task, whichever it is. Each task answers in a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import Task
from shopfit.tasks.predictions import Predictions

Pool = tuple[str, ...]
"""Ids of the items that one row is to rank; empty for other tasks."""


class TaskType(ABC):
    """A kind of task: how examples become questions, and answers become predictions."""

    name: ClassVar[Task]

    def pools(self, recipe: Recipe, examples: Sequence[Example], catalog: Catalog | None) -> list[Pool]:  # noqa: ARG002
        """The items each of N examples is to rank; empty for other tasks."""
        return [()] * len(examples)

    @abstractmethod
    def collect(
        self,
        labels: Sequence[str],
        examples: Sequence[Example],
        items: Sequence[Pool],
        answers: Sequence[Any],
        catalog: Catalog | None,
    ) -> Predictions:
        """Put N raw answers into the task's shape, whoever answered.

        Args:
            labels: choose: every label.
            examples: N of them.
            items: rank: the candidates of each.
            answers: N arrays of probabilities, arrays of scores, or texts.
            catalog: rank: for its size; without one, every candidate counts.
        """

    @property
    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """What a row's prediction and reference are, for `evaluate`: type names of `datasets`, lists and dicts."""

    @abstractmethod
    def from_columns(self, predictions: Any, references: Any, **options: Any) -> Predictions:
        """Predictions of what `evaluate` was given: N of each column, and the options of its `compute`."""
