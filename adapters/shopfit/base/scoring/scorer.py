"""The one way from questions to scores, whatever a base's architecture is.

Training lays questions out as a batch and differentiates its forward. Evaluation and the engine plan which rows the
questions take, compute each row once, and make the scores of what the rows gave.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shopfit.base.prefix import Prefix
from shopfit.base.scoring.questions import Question, Row, Tokens

Floats = NDArray[np.float64]
R = TypeVar("R", bound=Row)
TRIED = 18
"""Tokens that `Scorer.trials` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionBatch(ABC):
    """B questions with A answers, laid out for one forward that can be differentiated.

    Args:
        input_ids: (R, T) tokens.
        lengths: (A,) what each score is divided by.
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
    def forward(self, model: Any, *, prototypes: Tensor | None = None, prefix: Prefix | None = None) -> Tensor:
        """(A,) float32 score of each answer, higher is better.

        Args:
            model: of transformers, on the batch's device.
            prototypes: (L, D) of the classes that answers may be.
            prefix: what stands before each of the R rows, if anything does.
        """

    @abstractmethod
    def prompt_states(self, states: Tensor) -> Tensor:
        """(B, D) one state a question, of the (R, T, D) hidden states of a forward over this batch."""


@dataclass(frozen=True, slots=True)
class Plan(Generic[R]):
    """Which rows questions take, and the scores that they make.

    Args:
        rows: what forwards have to compute, each row by itself.
        scores: what `Scorer.compute` gave for the rows -> scores of each question's answers, higher is better.
    """

    rows: Sequence[R]
    scores: Callable[[Sequence[Floats]], list[Floats]]


@dataclass(frozen=True, slots=True)
class Scorer(ABC, Generic[R]):
    """How bases of one architecture score answers. Its rows go to no other scorer.

    Args:
        pad: token id that fills rows up.
    """

    pad: int

    writes_text: ClassVar[bool]
    """Whether the base writes text as well."""
    compares_texts: ClassVar[bool]
    """Whether scores are the likeness of vectors of single texts: untrained it can rank already, a text is read once
    however many questions it belongs to, and vectors may be kept."""

    @abstractmethod
    def collate(self, questions: Sequence[Question]) -> QuestionBatch:
        """Lay B questions out for one forward that can be differentiated."""

    @abstractmethod
    def plan(
        self, questions: Sequence[Question], *, prototypes: Floats | None = None, known: Mapping[Tokens, Floats] = {}
    ) -> Plan[R]:
        """The rows of B questions.

        Args:
            questions: with one answer each at least.
            prototypes: (L, D) of the classes that answers may be, of length 1.
            known: by their key, what rows that come again have given before.
        """

    @abstractmethod
    def compute(self, model: Any, rows: Sequence[R], prefix: Prefix | None = None) -> list[Floats]:
        """What each of the rows gives, in one forward.

        Args:
            model: of transformers.
            rows: N of them.
            prefix: what stands before each of the N rows, if anything does.
        """

    @abstractmethod
    def trials(self, model: Any, tokens: Sequence[int]) -> list[tuple[str, Tensor, Tensor]]:
        """What this scorer makes of some tokens, and what the model's own plain forward makes of them.

        Args:
            model: of transformers, in eval mode.
            tokens: `TRIED` of them, none of which means something to the model.

        Returns:
            what was computed, the scorer's numbers, and those that they have to be.
        """


def cut(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of rows of like length, longest first, so that a batch too large for memory shows at once.

    Args:
        lengths: of the rows, in tokens.
        budget: tokens a batch, padding included, unless one row alone is longer.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
