"""Tasks whose answers a base scores: each question's own, or the same for every question (a closed set)."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from shopfit.adapter.score_fusion import ADAPTER
from shopfit.base.prompt import Prompter
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.search import Embed
from shopfit.recipe.schema import Recipe
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.requests import Answer
from shopfit.tasks.task import Rows, TaskType

if TYPE_CHECKING:
    from shopfit.adapter.head import Head
    from shopfit.base.scoring.questions import Question
    from shopfit.tasks.tenant import Tenant

Parts = dict[str, Floats]
"""Scores of A answers by part of the blend, each (A,)."""
FusionRow = tuple[Parts, Floats]
"""Parts of one example, and what is right of its A answers, (A,)."""
_LEAST = 1e-300  # a mass whose logarithm and inverse are numbers


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


class ScoredTask(TaskType):
    """A task whose answers are scored."""

    @abstractmethod
    def question(
        self,
        prompter: Prompter,
        labels: Sequence[str],
        fields: Fields,
        pool: Sequence[str],
        head: "Head | None",
    ) -> "Question":
        """What a base is asked about one row, if its answers are scored.

        Args:
            prompter: writes prompt and answers.
            labels: of the merchant.
            fields: of the row.
            pool: rank: the items to rank.
            head: of the adapter: a label is answered by its class if the head has it, else by its words.
        """

    def raw(self, recipe: Recipe, labels: Sequence[str], scores: Floats) -> Any:
        """What `collect` takes of the scores (A,) of a question's answers, as trained."""
        return scores

    # score fusion: a task with a `fusion` has its own of the next three

    def facts(self, examples: Rows, labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None) -> Any:
        """The fields of the task's `fusion` besides the weights, by name: statistics of a merchant's examples."""
        return {}

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

    def fusion_loss(self, totals: Floats, right: Floats) -> tuple[Floats, Floats]:
        """Losses in nats: right answers' mean cross-entropy, each against the wrong ones.

        Args:
            totals: (R, A) fused scores of the answers of R rows.
            right: (R, A) 1 for a right answer and 0 for a wrong one, at least one right a row.

        Returns:
            (R,) losses, and (R, A) their gradients.
        """
        below = totals - totals.max(1, keepdims=True)
        powers = np.exp(below)  # 0 for what is far below
        wrong = powers * (1 - right)
        mass = np.maximum(wrong.sum(1, keepdims=True) + powers, _LEAST)  # of a right answer and all wrong ones
        counts = right.sum(1, keepdims=True)
        losses = (right * (np.log(mass) - below)).sum(1) / counts[:, 0]
        gradients = right * (powers / mass - 1) + wrong * (right / mass).sum(1, keepdims=True)
        return losses, gradients / counts

    def guessing(self, row: FusionRow) -> float:
        """The loss of a row of who knows nothing."""
        return float(np.log((row[1] == 0).sum() + 1))

    def fused(self, held_out: Predictions, totals: Sequence[Floats]) -> Predictions:
        """The same rows with other scores."""
        raise NotImplementedError


class ClosedTask(ScoredTask):
    """A task whose questions all have the same answers: a merchant's labels, or levels."""

    @abstractmethod
    def labels(self, recipe: Recipe, examples: Rows) -> tuple[str, ...]:
        """Names of the answers, as of any task."""

    def question(
        self,
        prompter: Prompter,
        labels: Sequence[str],
        fields: Fields,
        pool: Sequence[str],
        head: "Head | None",
    ) -> "Question":
        """Which of the labels fits: by its class if the head has it, else by its words."""
        from shopfit.base.scoring.questions import ClassIndex, Question

        rows = {} if head is None else {label: ClassIndex(row) for row, label in enumerate(head.labels)}
        return Question(prompter.encode(fields), tuple(rows.get(label) or prompter.label(label) for label in labels))

    @abstractmethod
    def shown_by(self, examples: Rows, labels: Sequence[str]) -> dict[str, list[Example]]:
        """Examples that show what each of a merchant's labels means, for the first prototypes of a head."""

    @abstractmethod
    def answer(self, tenant: "Tenant", scores: Floats, others: Parts) -> Answer:
        """The answer to a request, of a task whose questions have the same answers.

        Args:
            tenant: the adapter.
            scores: (A,) its scores of the answers; empty if its blend leaves it out.
            others: what the blend adds to them.
        """

    @abstractmethod
    def uncertainty(self, answers: Sequence[Any], labels: Sequence[str]) -> tuple[Floats, list[str]]:
        """How unsure U answers of `answer` are.

        Returns:
            (U, L) gradients of the likeliest answers' loss by the labels' scores, and U short reasons.
        """

    @abstractmethod
    def guesses(self, answers: Sequence[Any]) -> list[dict[str, Any]]:
        """U answers of `answer` for people who label: `suggested`, and `probability` where it has one."""

    # score fusion: a task with a `fusion` has its own of the first two

    def parts(self, facts: Any, labels: Sequence[str], fields: Fields, text: str, embed: Embed | None) -> Parts:
        """Every part but the adapter's, for a row of a task whose questions have the same answers.

        Args:
            facts: a `fusion`.
            labels: L of them.
            fields: of the row.
            text: of the prompt's fields.
            embed: turns texts into vectors; None to leave out what needs it.
        """
        return {}

    def judged(self, labels: Sequence[str], predictions: Predictions) -> list[tuple[Floats, Floats]]:
        """The adapter's part of N held-out answers, and what is right of them: two arrays (A,) each."""
        raise NotImplementedError

    def fusion_rows(
        self, recipe: Recipe, held: HeldOutSet, predictions: Predictions, embed: Embed | None
    ) -> list[FusionRow]:
        """The adapter's part of the held-out answers, and the parts beside it."""
        if self.fusion is None:
            return []

        def text(example: Example) -> str:
            return held.prompter.text(example.fields)

        facts = self.fusion(weights={ADAPTER: 1.0}, **self.facts(held.train, held.labels, text, embed))
        texts = [text(example) for example in held.valid]
        if embed is not None:
            embed(texts)  # all at once is faster
        rows = []
        judged = self.judged(held.labels, predictions)
        for example, shown, (said, right) in zip(held.valid, texts, judged, strict=True):
            others = self.parts(facts, held.labels, example.fields, shown, embed)
            rows.append(({ADAPTER: said, **others}, right))
        return rows
