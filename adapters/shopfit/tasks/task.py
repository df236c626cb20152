"""The interface that every task implements, each in a file of its own."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.base.prompt import Prompter
from shopfit.errors import Problem, RecipeError
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.search import Embed
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import TASKS, Task
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.system import Learned, System

if TYPE_CHECKING:
    from torch import Tensor

    from shopfit.adapter.head import Head
    from shopfit.base.scoring.questions import Question
    from shopfit.tasks.tenant import Tenant

Rows = Sequence[Example]
Pool = tuple[str, ...]
"""Ids of the items that one row is to rank; empty for other tasks."""
Parts = dict[str, Floats]
"""Scores of A answers by part of the blend, each (A,)."""
FusionRow = tuple[Parts, Floats]
"""Parts of one example, and what is right of its A answers, (A,)."""


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


class HeldOutSet(Protocol):
    """Examples to learn from and others that are held out, of one merchant."""

    @property
    def train(self) -> Sequence[Example]: ...  # noqa: D102

    @property
    def valid(self) -> Sequence[Example]: ...  # noqa: D102

    @property
    def labels(self) -> Sequence[str]: ...  # noqa: D102

    @property
    def prompter(self) -> Prompter: ...  # noqa: D102


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

    def question(
        self,
        prompter: Prompter,
        labels: Sequence[str],
        fields: Fields,
        pool: Sequence[str],
        head: "Head | None",
    ) -> "Question":
        """What a base is asked about one row, if its answers are scored: by default, which of the labels fits.

        Args:
            prompter: writes prompt and answers.
            labels: of the merchant.
            fields: of the row.
            pool: rank: the items to rank.
            head: of the adapter: a label is answered by its class if the head has it, else by its words.
        """
        from shopfit.base.scoring.questions import ClassIndex, Question

        rows = {} if head is None else {label: ClassIndex(row) for row, label in enumerate(head.labels)}
        return Question(prompter.encode(fields), tuple(rows.get(label) or prompter.label(label) for label in labels))

    def shown_by(self, examples: Rows, labels: Sequence[str]) -> dict[str, list[Example]]:
        """Examples that show what each of a merchant's labels means, for the first prototypes of a head."""
        return {}

    # training

    @abstractmethod
    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """The A answers that a training example is scored on, and a target of each: whether it is right, or numbers."""

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

    def raw(self, recipe: Recipe, labels: Sequence[str], scores: Floats) -> Any:
        """What `collect` takes of the scores (A,) of a question's answers, as trained."""
        return scores

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
        return self.fit(name, learned)

    @abstractmethod
    def fit(self, name: str, learned: Learned) -> System:
        """Fit the baseline of that name."""

    # answers

    def answer(self, tenant: "Tenant", scores: Floats, others: Parts) -> Answer:
        """The answer to a request, of a task whose questions have the same answers.

        Args:
            tenant: the adapter.
            scores: (A,) its scores of the answers; empty if its blend leaves it out.
            others: what the blend adds to them.
        """
        raise NotImplementedError(f"{self.name} has answers of its own to every question")

    def uncertainty(self, answers: Sequence[Any], labels: Sequence[str]) -> tuple[Floats, list[str]]:
        """How unsure U answers of `answer` are.

        Returns:
            (U, L) gradients of the likeliest answers' loss by the labels' scores, and U short reasons.
        """
        raise NotImplementedError(f"{self.name} has answers of its own to every question")

    # score fusion

    def facts(self, examples: Rows, labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None) -> Any:
        """The fields of the task's `fusion` besides the weights, by name: statistics of a merchant's examples."""
        raise NotImplementedError(f"{self.name} has no score fusion")

    def parts(self, facts: Any, labels: Sequence[str], fields: Fields, text: str, embed: Embed | None) -> Parts:
        """Every part but the adapter's, for a row of a task whose questions have the same answers.

        Args:
            facts: a `fusion`.
            labels: L of them.
            fields: of the row.
            text: of the prompt's fields.
            embed: turns texts into vectors; None to leave out what needs it.
        """
        raise NotImplementedError(f"{self.name} has answers of its own to every question")

    def fusion_rows(
        self, recipe: Recipe, held: HeldOutSet, predictions: Predictions, embed: Embed | None
    ) -> list[FusionRow]:
        """Parts of the held-out examples, from facts of the training examples only; none without score fusion."""
        return []

    def tells(self, row: FusionRow) -> bool:
        """Whether weights can be learned from a row: some of its answers are right and others are not."""
        return bool(0 < row[1].sum() < len(row[1]))

    def varies(self, part: Floats) -> bool:
        """Whether a part of a row changes what is answered."""
        return bool(np.ptp(part) > 0)

    def fusion_loss(self, total: Floats, right: Floats) -> float:
        """The loss of a row's fused scores (A,) in nats: right answers' mean cross-entropy against the wrong ones."""
        wrong, ceiling = total[right == 0], total.max()
        mass = np.log(np.exp(wrong - ceiling).sum() + np.exp(total[right == 1] - ceiling)) + ceiling
        return float((mass - total[right == 1]).mean())

    def guessing(self, row: FusionRow) -> float:
        """The loss of a row of who knows nothing."""
        return float(np.log((row[1] == 0).sum() + 1))

    def fused(self, held_out: Predictions, totals: Sequence[Floats]) -> Predictions:
        """The same rows with other scores."""
        raise NotImplementedError(f"{self.name} has no score fusion")

    # `evaluate`

    @property
    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """What a row's prediction and reference are, for `evaluate`: type names of `datasets`, lists and dicts."""

    @abstractmethod
    def from_columns(self, predictions: Any, references: Any, **options: Any) -> Predictions:
        """Predictions of what `evaluate` was given: N of each column, and the options of its `compute`."""
