"""The interface that every task implements, each in a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.base.prompt import Prompter
from shopfit.errors import Problem, RecipeError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import TASKS, Task
from shopfit.tasks.predictions import Predictions
from shopfit.tasks.requests import Request
from shopfit.tasks.row_answers import RowAnswer
from shopfit.tasks.system import MINILM, Learned, System

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
        names: those that its answers are of, where all examples have the same ones.
        answers: of each name.
        negatives: rank: draws items that are not relevant.
    """

    example: Example
    prompter: Prompter
    names: Sequence[str]
    answers: Sequence[Any]
    negatives: Callable[[], Sequence[str]]


class CollatedQuestions(Protocol):
    """Questions with A answers, laid out for a base: A numbers of tokens, and the answers of each question."""

    @property
    def lengths(self) -> "Tensor": ...  # noqa: D102

    @property
    def counts(self) -> Sequence[int]: ...  # noqa: D102


class TrainingBatch(Protocol):
    """B questions with A answers: (A, ...) the task's targets, and (B,) the share of each question in the loss."""

    @property
    def questions(self) -> CollatedQuestions: ...  # noqa: D102

    @property
    def gold(self) -> "Tensor": ...  # noqa: D102

    @property
    def weights(self) -> "Tensor": ...  # noqa: D102


class TaskType(ABC):
    """A kind of task: how examples become questions, and scores become predictions and answers."""

    name: ClassVar[Task]
    request: ClassVar[type[Request]]
    fusion: ClassVar[type[ScoreFusion] | None] = None
    """What `blend.json` holds; None for tasks without score fusion."""

    # what is asked

    def labels(self, recipe: Recipe, examples: Rows) -> tuple[str, ...]:
        """Names of the answers that every question of a merchant has; none where questions have their own.

        Args:
            recipe: may name them.
            examples: to train on; may be empty.
        """
        return ()

    def label_problems(self, recipe: Recipe, labels: Sequence[str]) -> list[Problem]:
        """Why a bundle's labels, all valid names, cannot be those of its recipe; empty if they can."""
        return []

    def pools(self, recipe: Recipe, examples: Rows, catalog: Catalog | None) -> list[Pool]:
        """The items each of N examples is to rank; empty for other tasks."""
        return [()] * len(examples)

    # answers beside the right ones

    @abstractmethod
    def wanted(self, example: Example, catalog: Catalog | None) -> str:
        """The right answer of an example, in words."""

    @abstractmethod
    def judge(self, example: Example, answer: Any, labels: Sequence[str]) -> RowAnswer:
        """An answer to an example beside the right one.

        Args:
            example: with its right answer.
            answer: of this task.
            labels: of the adapter that answered.
        """

    # training

    @abstractmethod
    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The A answers that a training example is scored on, and a target of each: whether it is right, or numbers."""

    def right_answer(self, question: TrainingQuestion) -> Any:
        """The answer that stands behind a training example's prompt where the example is shown: the first right one."""
        answers, targets = self.training_answers(question)
        return answers[targets.index(True)]

    def size(self, answers: Sequence[Any]) -> int:
        """What a question adds to what the loss of a batch is divided by: 1, or the tokens of its answers."""
        return 1

    @abstractmethod
    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, tune: Tune | None = None) -> "Tensor":
        """The loss of B examples with A answers, a scalar, in nats.

        Args:
            sums: (A,) log-probability of each answer.
            batch: of the examples.
            temperature: mean log-probabilities a token are divided by it, but for `generate`.
            tune: the recipe's, for what regularises training; None to measure.
        """

    # predictions

    @abstractmethod
    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> Predictions:
        """Collect N raw answers, whichever system gave them, as the task's predictions.

        Args:
            labels: of the merchant.
            rows: N examples.
            pools: rank: the items that each ranked.
            answers: N raw answers.
            catalog: rank: for its size; without one, every candidate counts.
        """

    @abstractmethod
    def priors(
        self, recipe: Recipe, train: Rows, *, labels: Sequence[str] = (), catalog: Catalog | None = None
    ) -> list[System]:
        """What can be said with no model at all, fitted. Every report shows it, and an adapter must beat it.

        Args:
            recipe: whose task it is.
            train: the training examples, at least one.
            labels: every label, in order; by default those of the recipe, else of `train`.
            catalog: rank: the items; None for plain titles.
        """

    def baseline(self, name: str, learned: Learned) -> System:
        """Fit one of the task's baselines, a simple model of the same training rows as the adapter.

        Raises:
            RecipeError: if it has none of that name.
        """
        if name not in (allowed := TASKS[self.name].baselines):
            raise RecipeError(
                f"there is no baseline {name!r} of task {self.name}", next_step=f"use one of {', '.join(allowed)}"
            )
        encoder, _, kind = name.partition("-")
        if not kind:
            return self.fit(name, learned)
        short = MINILM if encoder == MINILM else learned.encoder
        embed = learned.embed if short == learned.encoder else (learned.minilm or learned.embed)
        return self.fit(f"{short}-{kind}", replace(learned, embed=embed))

    @abstractmethod
    def fit(self, name: str, learned: Learned) -> System:
        """Fit the baseline of that name."""

    # `evaluate`

    @property
    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """What a row's prediction and reference are, for `evaluate`: type names of `datasets`, lists and dicts."""

    @abstractmethod
    def from_columns(self, predictions: Any, references: Any, **options: Any) -> Predictions:
        """Predictions of what `evaluate` was given: N of each column, and the options of its `compute`."""
