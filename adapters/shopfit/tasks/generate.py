"""`generate`: a text, or a JSON object written as text (see `answers`)."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks.metric import Weighted, mean_of_rows, metric, ratio
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.row_answers import RowAnswer
from shopfit.tasks.system import Answers, Learned, System
from shopfit.tasks.task import Pool, Rows, TaskType, TrainingBatch, TrainingQuestion
from shopfit.tasks.text_similarity import as_text, field_counts, is_exact, parse_object
from shopfit.tasks.text_similarity import token_f1 as f1_of_words

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class GenerateRequest(Request):
    """Asks for a generated answer. Defaults come from the recipe's `serve` section.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
        max_new_tokens: tokens at most, 1 to 4096.
        temperature: 0 is greedy, 5 at most.
        top_p: share of the probability that tokens are drawn from, above 0, to 1.
        frequency_penalty: taken from a token's logit for each time that the answer has it already, -2 to 2;
            0 by default.
        presence_penalty: taken from it once if the answer has it, likewise.
        stop: texts that end the answer and are not part of it, 64 at most, of 1 to 10,000 characters each.
        seed: of the sampling; the same request with the same seed gets the same answer. Random by default.
        json_schema: the answer is JSON that follows it; 32 KB at most.
        logprobs: 0 to 20: the answer has its tokens, each with its log-probability and so many of the most probable
            ones in its place; None leaves them out.
    """

    task: ClassVar[Task] = "generate"

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    json_schema: Mapping[str, Any] | None = None
    logprobs: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """One token of a generated text.

    Args:
        text: of it alone; half of a character is shown as "\ufffd".
        logprob: its log-probability in nats, 0 or less, in the model's own distribution with the adapter: before
            temperature, top_p, penalties and any schema.
        top: the most probable tokens in its place, the most probable first: text and log-probability of each.
    """

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class TextPart(str):
    """A part of a streamed text, of a request with `logprobs`.

    Each token is with the part in which its first character is. Joined, the parts and their tokens are those of the
    whole answer; the last part may have no text, but tokens of white space that the answer ends with.

    Args:
        text: of the part.
        tokens: of the text.
    """

    tokens: tuple[WrittenToken, ...]

    def __new__(cls, text: str, tokens: Sequence[WrittenToken] = ()) -> Self:
        """A text with tokens."""
        part = super().__new__(cls, text)
        part.tokens = tuple(tokens)
        return part

    @classmethod
    def joined(cls, parts: Sequence[str]) -> str:
        """Several parts as one, with the tokens of all if they have any."""
        text = "".join(parts)
        logged = [part for part in parts if isinstance(part, cls)]
        return cls(text, [token for part in logged for token in part.tokens]) if logged else text


@dataclass(frozen=True, slots=True)
class GenerateAnswer(Answer):
    """A text.

    Args:
        text: as generated.
        output: the same as JSON, if it is a JSON object.
        finish: "stop" if it is complete, "length" if it was cut off.
        tokens: of the text, if the request has `logprobs`: without those of the stop that ended it, but with those of
            white space around it.
    """

    text: str
    output: Mapping[str, Any] | None
    finish: Literal["stop", "length"] = "stop"
    tokens: tuple[WrittenToken, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The lines of the text."""
        return self.text.splitlines()

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> str:
        """The text."""
        return self.text

    @classmethod
    def of(
        cls, text: str, finish: Literal["stop", "length"], tokens: tuple[WrittenToken, ...] = ()
    ) -> "GenerateAnswer":
        """The answer of a text, why it ended, and of which tokens it is."""
        return cls(text, _json_object(text), finish, tokens)


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

    name: ClassVar[Task] = "generate"
    request = GenerateRequest

    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> GeneratePredictions:
        """Put N texts beside the right ones."""
        return GeneratePredictions(tuple(answers), tuple(row.output for row in rows))

    def wanted(self, example: Example, catalog: Catalog | None) -> str:
        """The text, or the object as text."""
        return as_text(example.output)

    def judge(self, example: Example, answer: GenerateAnswer, labels: Sequence[str]) -> RowAnswer:
        """The text; merit is F1 over the fields of a right answer that is an object, else over words."""
        gold = as_text(example.output)
        right, extra, missing = field_counts(answer.text, gold)
        fields = right + extra + missing
        merit = 2 * right / (fields + right) if fields else f1_of_words(answer.text, gold)
        return RowAnswer(answer.text, merit, is_exact(answer.text, gold))

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """The right answer alone."""
        assert question.example.output is not None
        return (question.prompter.output(question.example.output),), (True,)

    def size(self, answers: Sequence[Any]) -> int:
        """Tokens of the answer."""
        return sum(map(len, answers))

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, tune: Tune | None = None) -> "Tensor":
        """Cross-entropy over the answers' tokens, each weighing the same."""
        return -(batch.weights * sums).sum() / batch.questions.lengths.sum()

    def priors(
        self,
        recipe: Recipe,
        train: Rows,
        *,
        labels: Sequence[str] = (),
        catalog: Catalog | None = None,
    ) -> list[System]:
        """The most common answer; of objects, each field's most common value, if most objects have the field at all."""
        outputs = [example.output for example in train]
        objects = [output for output in outputs if isinstance(output, Mapping)]
        if objects and len(objects) == len(outputs):
            text = json.dumps(_common_fields(objects), ensure_ascii=False)
        else:
            text = Counter(map(as_text, outputs)).most_common(1)[0][0]
        return [System("most-common", "prior", self, lambda rows, _: [text] * len(rows))]

    def fit(self, name: str, learned: Learned) -> System:
        """The answer to the training example whose text is nearest."""
        return System(name, "baseline", self, _nearest(learned))

    @property
    def columns(self) -> dict[str, Any]:
        """A text as generated, and the right answer, a JSON object as JSON text."""
        return {"predictions": "string", "references": "string"}

    def from_columns(self, predictions: Any, references: Any, **_: Any) -> GeneratePredictions:
        """Predictions of N texts and N right ones."""
        return GeneratePredictions(tuple(predictions), tuple(references))


TASK = Generate()


def _nearest(learned: Learned) -> Answers:
    train, text, embed = learned.train, learned.text, learned.embed
    vectors = embed([text(example) for example in train])

    def answer(rows: Rows, _: Sequence[Sequence[str]]) -> list[str]:
        nearest = (embed([text(row) for row in rows]) @ vectors.T).argmax(1) if rows else []
        return [as_text(train[place].output) for place in nearest]

    return answer


def _common_fields(objects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found = {}
    for name in dict.fromkeys(name for value in objects for name in value):
        values = Counter(json.dumps(value[name], sort_keys=True) for value in objects if name in value)
        if 2 * values.total() >= len(objects):
            found[name] = json.loads(values.most_common(1)[0][0])
    return found


def _json_object(text: str) -> Mapping[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


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
