"""What a system answered on a test set: one class a task, in the task's own file."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shopfit.recipe.tasks import Task

Floats = NDArray[np.float64]


class Predictions(ABC):
    """N answers to one task and the right ones, whichever system answered."""

    __slots__ = ()
    task: ClassVar[Task]

    @property
    @abstractmethod
    def rows(self) -> int:
        """N, the rows predicted."""

    def labels_seen(self, known: Collection[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The labels that a metric over labels depends on, and those of them that no row has; none without labels.

        Args:
            known: those that the merchant's examples have; by default all that can be answered.
        """
        return (), ()

    @classmethod
    @abstractmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The answers of one or more parts of a test set as one; those of `choose` are among the same labels."""


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """The answers of one or more parts of a test set, all of one task and among the same labels, as one.

    Raises:
        ValueError: if they are of several tasks.
    """
    first = type(parts[0])
    if any(type(part) is not first for part in parts):
        raise ValueError("only answers to one task can be pooled")
    return first.join(parts)
