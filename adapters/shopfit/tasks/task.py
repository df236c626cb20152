"""The interface that every task implements, each in a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shopfit.base.prompt import Prompter
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tasks.predictions import Predictions

if TYPE_CHECKING:
    from torch import Tensor

Rows = Sequence[Example]
Pool = tuple[str, ...]
"""Ids of the items that one row is to rank; empty for other tasks."""


@dataclass(frozen=True, slots=True)
class TrainingQuestion:
    """An example to train on, with what its answers are made from.

    Args:
        example: with its right answer.
        prompter: writes answers.
        labels: choose: every label's answer.
        gold: choose: whether each label is right.
        negatives: rank: draws items that are not relevant.
    """

    example: Example
    prompter: Prompter
    labels: Sequence[Any]
    gold: Sequence[bool]
    negatives: Callable[[], Sequence[str]]


class CollatedQuestions(Protocol):
    """Questions with A answers, laid out for a base: A numbers of tokens, and the answers of each question."""

    @property
    def lengths(self) -> "Tensor": ...  # noqa: D102

    @property
    def counts(self) -> Sequence[int]: ...  # noqa: D102


class TrainingBatch(Protocol):
    """B questions with A answers: (A,) whether each is right, and (B,) the share of each question in the loss."""

    @property
    def questions(self) -> CollatedQuestions: ...  # noqa: D102

    @property
    def gold(self) -> "Tensor": ...  # noqa: D102

    @property
    def weights(self) -> "Tensor": ...  # noqa: D102


class TaskType(ABC):
    """A kind of task: how examples become questions, and answers become predictions."""

    def pools(self, recipe: Recipe, examples: Sequence[Example], catalog: Catalog | None) -> list[Pool]:
        """The items each of N examples is to rank; empty for other tasks."""
        return [()] * len(examples)

    @abstractmethod
    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> Predictions:
        """Collect N raw answers, whichever system gave them, as the task's predictions.

        Args:
            labels: choose: every label.
            rows: N examples.
            pools: rank: the items that each ranked.
            answers: N arrays of probabilities, arrays of scores, or texts.
            catalog: rank: for its size; without one, every candidate counts.
        """

    @abstractmethod
    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """The answers that a training example is scored on, and which of them are right."""

    @abstractmethod
    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, smoothing: float = 0.0) -> "Tensor":
        """The loss of B examples with A answers, a scalar.

        Args:
            sums: (A,) log-probability of each answer.
            batch: of the examples.
            temperature: rank and choose: mean log-probabilities a token are divided by it.
            smoothing: choose: share of the target that is spread evenly over all labels (arXiv:1512.00567).
        """

    @property
    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """What a row's prediction and reference are, for `evaluate`: type names of `datasets`, lists and dicts."""

    @abstractmethod
    def from_columns(self, predictions: Any, references: Any, **options: Any) -> Predictions:
        """Predictions of what `evaluate` was given: N of each column, and the options of its `compute`."""
