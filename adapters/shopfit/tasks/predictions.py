"""What a system answered on a test set: one class a task, in the task's own file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
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
