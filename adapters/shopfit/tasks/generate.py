"""`generate`: a text, or a JSON object written as text (see `answers`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from shopfit.merchant.catalog import Catalog
from shopfit.recipe.tasks import Task
from shopfit.tasks.answers import as_text, field_counts, is_exact, parse_object
from shopfit.tasks.answers import token_f1 as f1_of_words
from shopfit.tasks.metric import Weighted, mean_of_rows, metric, ratio
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.task import Pool, Rows, TaskType, TrainingBatch, TrainingQuestion

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class GeneratePredictions(Predictions):
    """N generated answers.

    Args:
        outputs: N texts as generated.
        gold: N right answers, text or JSON objects.
    """

    task: ClassVar[Task] = "generate"

    outputs: tuple[str, ...]
    gold: tuple[Any, ...]

    @property
    def rows(self) -> int:
        """N, the rows predicted."""
        return len(self.outputs)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """N texts, each with the right one."""
        return list(zip(self.outputs, map(as_text, self.gold), strict=True))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The answers of one or more parts of a test set."""
        return cls(
            tuple(text for part in parts for text in part.outputs),
            tuple(right for part in parts for right in part.gold),
        )


class Generate(TaskType):
    """Generates a text."""

    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> GeneratePredictions:
        """Put N texts beside the right ones."""
        return GeneratePredictions(tuple(answers), tuple(row.output for row in rows))

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """The right answer alone."""
        assert question.example.output is not None
        return (question.prompter.output(question.example.output),), (True,)

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, smoothing: float = 0.0) -> "Tensor":
        """Cross-entropy over the answers' tokens, each weighing the same."""
        return -(batch.weights * sums).sum() / batch.questions.lengths.sum()

    @property
    def columns(self) -> dict[str, Any]:
        """A text as generated, and the right answer, a JSON object as JSON text."""
        return {"predictions": "string", "references": "string"}

    def from_columns(self, predictions: Any, references: Any, **_: Any) -> GeneratePredictions:
        """Predictions of N texts and N right ones."""
        return GeneratePredictions(tuple(predictions), tuple(references))


@metric("valid_json", mean=True)
def valid_json(predictions: GeneratePredictions, _: int) -> Weighted:
    """Share of outputs that are a JSON object and nothing else, whatever the right answer."""
    return mean_of_rows([parse_object(output) is not None for output in predictions.outputs])


@metric("field_f1")
def field_f1(predictions: GeneratePredictions, _: int) -> Weighted:
    """Micro F1 over the fields of the right objects: scalars by equality, lists by the overlap of their sets.

    It is nan where no right answer is an object with fields.
    """
    counts = np.array([field_counts(*pair) for pair in predictions.pairs], np.float64).reshape(-1, 3)

    def of(weights: Floats) -> Floats:
        right, extra, missing = (weights @ counts).T
        return ratio(2 * right, 2 * right + extra + missing)

    return of


@metric("exact_match", mean=True)
def exact_match(predictions: GeneratePredictions, _: int) -> Weighted:
    """Share of outputs that are the right answer."""
    return mean_of_rows([is_exact(*pair) for pair in predictions.pairs])


@metric(
    "token_f1",
    mean=True,
    paper="Rajpurkar et al., SQuAD: 100,000+ Questions for Machine Comprehension of Text (arXiv:1606.05250)",
)
def token_f1(predictions: GeneratePredictions, _: int) -> Weighted:
    """Mean F1 over words."""
    return mean_of_rows([f1_of_words(*pair) for pair in predictions.pairs])
