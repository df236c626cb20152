"""The interface of scorers: from questions to scores, whatever the base's architecture.

Training collates questions to a batch and differentiates its forward. Evaluation and the engine plan which rows the
questions need, compute each row once, and make the scores of the rows' results.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopfit.base.prefix import Prefix
from shopfit.base.scoring.questions import Question, Row, Tokens

ScoringPath = Literal["fast", "plain"]
"""How texts are laid out for a base: answers side by side and padded rows, or one text a row as it would be alone."""
Floats = NDArray[np.float64]
Trial = tuple[str, Tensor, Tensor]
"""What is compared, the scorer's numbers, and the expected ones."""
R = TypeVar("R", bound=Row)
TRIED = 18
"""Number of tokens that `Scorer.trials` takes."""
_FORWARD = 40  # tokens that take a CPU as long as what a forward costs beside its tokens (minilm-l6: 35)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionBatch(ABC):
    """B questions with A answers, collated for one differentiable forward.

    Args:
        input_ids: (R, T) tokens.
        lengths: (A,) divisor of each score, for a mean a token.
        counts: answers of each question, B numbers.
    """

    input_ids: Tensor
    lengths: Tensor
    counts: tuple[int, ...]

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)}
        return type(self)(**(values | moved))

    @abstractmethod
    def forward(self, model: Any, *, classes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:
        """(A,) float32 score of each answer, higher is better.

        Args:
            model: of transformers, on the batch's device.
            classes: (L, D + 1) of those that answers may be: weights of a text's vector, and a bias.
            prefix: of the R rows, if any.
        """

    @abstractmethod
    def prompt_states(self, model: Any, states: Tensor) -> Tensor:
        """(B, D) one state a question, of the model's (R, T, D) hidden states in a forward over this batch."""

    def row_keys(self, model: Any) -> list[tuple[bytes, int]]:  # noqa: ARG002 - some read rows in several ways
        """Of each of the R rows, in the order in which `forward` reads them: all that its tokens' states depend on, and
        the number of its tokens. Empty where rows are read in another way.
        """
        return []


def keys_of(tokens: Tensor, *read: Tensor) -> list[tuple[bytes, int]]:
    """`row_keys` of rows that are padded on the right.

    Args:
        tokens: (R, T) true for a token, false for padding.
        read: (R, T) integers that a row's states depend on, such as its tokens.
    """
    lengths, laid = tokens.sum(1).tolist(), [part.cpu().numpy() for part in read]
    return [(b"".join(part[row, :length].tobytes() for part in laid), length) for row, length in enumerate(lengths)]


@dataclass(frozen=True, slots=True)
class Plan(Generic[R]):
    """The rows that questions need, and how their results become scores.

    Args:
        rows: to compute, in any batches.
        scores: results of `Scorer.compute` for the rows -> scores of each question's answers, higher is better.
    """

    rows: Sequence[R]
    scores: Callable[[Sequence[Floats]], list[Floats]]


@dataclass(frozen=True, slots=True)
class Scorer(ABC, Generic[R]):
    """How bases of one architecture score answers.

    Args:
        pad: padding token id.
    """

    pad: int

    writes_text: ClassVar[bool]
    """Whether the base generates text as well."""
    compares_texts: ClassVar[bool]
    """Whether scores are similarities of vectors of single texts: then an untrained base can rank already, a text is
    encoded once however many questions share it, and vectors can be cached."""
    path: ClassVar[ScoringPath]
    """How it lays out texts."""
    peft_task: ClassVar[str]
    """PEFT's `task_type` of adapters on it."""
    takes_prefix: ClassVar[bool] = False
    """Whether rows may have trained keys and values before them."""
    answers_apart: ClassVar[bool] = False
    """Whether a base that writes reads a prompt by itself, and an answer as another text, not as its end."""

    @abstractmethod
    def collate(self, questions: Sequence[Question]) -> QuestionBatch:
        """Collate B questions for one differentiable forward."""

    @abstractmethod
    def plan(
        self, questions: Sequence[Question], *, classes: Floats | None = None, known: Mapping[Tokens, Floats] = {}
    ) -> Plan[R]:
        """The rows of B questions.

        Args:
            questions: with one answer each at least.
            classes: (L, D + 1) of those that answers may be: weights of a text's vector, and a bias.
            known: cached results of recurring rows, by their key.
        """

    @abstractmethod
    def compute(self, model: Any, rows: Sequence[R], prefix: Prefix | None = None) -> list[Floats]:
        """Compute the result of each row in one forward.

        Args:
            model: of transformers.
            rows: N of them.
            prefix: of the N rows, if any.
        """

    @property
    def prompts(self) -> tuple[str, str]:
        """What a base that compares texts reads before one that asks, and before one that is found; else empty."""
        return "", ""

    @property
    def longest_answer(self) -> int | None:
        """Most tokens of an answer that is read apart from its prompt; None where it is read behind it."""
        return None

    def apart(self, model: Any, row: R) -> int:  # noqa: ARG002 - most models read any rows together
        """A number that rows must have in common to share a forward on this model."""
        return 0

    def take_plain_path(self, model: Any) -> bool:  # noqa: ARG002 - most architectures have one path
        """Read so from now on that no row depends on others' lengths, though that is slower.

        Returns:
            whether that is another path than the one that was taken so far.
        """
        return False

    @abstractmethod
    def trials(self, model: Any, tokens: Sequence[int]) -> list[Trial]:
        """Results of this scorer on some tokens, and those of the model's own plain forward.

        Args:
            model: of transformers, in eval mode.
            tokens: `TRIED` of them, without special tokens.
        """

    def prefix_trials(self, model: Any, tokens: Sequence[int], prefix: Tensor) -> list[Trial]:  # noqa: ARG002 - encoders take no prefix
        """The same of a batch in which one row has a prefix.

        Args:
            model: of transformers, in eval mode.
            tokens: `TRIED` of them, without special tokens.
            prefix: (layers, 2, heads, 2, dim) keys and values of the first two.
        """
        return []


def width(tokens: int, behind: int) -> int:
    """What a row counts for in a forward's budget: its tokens, and half of those of a prefix before them.

    Keys and values take as much memory as a token that is read, and little of its time.
    """
    return tokens + behind // 2


def cut(lengths: Sequence[int], budget: int, device: torch.device) -> Iterator[list[int]]:
    """Batches of indices of rows of similar length, longest first, so that running out of memory shows at once.

    On a CPU, where padding takes as long as text, they are those that take least together, a forward's own cost
    included. Elsewhere a batch is as large as the budget allows.

    Args:
        lengths: of the rows, in tokens.
        budget: tokens a batch, padding included, unless one row alone is longer.
        device: that reads them.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = np.array([lengths[row] for row in order])
    if device.type != "cpu":
        first = 0
        while first < len(order):
            rows = max(1, budget // max(1, int(widths[first])))
            yield order[first : first + rows]
            first += rows
        return
    least, ends = np.zeros(len(order) + 1), np.zeros(len(order), np.int64)  # of the rows from each one on
    for first in reversed(range(len(order))):
        last = min(len(order), first + max(1, budget // max(1, int(widths[first]))))
        costs = _FORWARD + widths[first] * np.arange(1, last - first + 1) + least[first + 1 : last + 1]
        best = int(costs.argmin())
        least[first], ends[first] = costs[best], first + 1 + best
    first = 0
    while first < len(order):
        yield order[first : ends[first]]
        first = int(ends[first])
