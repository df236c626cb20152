"""The interface of a base with an adapter on it, in training or finished, for scoring and generation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shopfit.adapter.head import Head
from shopfit.base.prefix import Prefix
from shopfit.base.scoring.scorer import QuestionBatch


class AdaptedModel(Protocol):
    """A model with an adapter, or without one."""

    @property
    def model(self) -> Any:
        """The causal language model or the encoder, adapter layers in it."""

    @property
    def head(self) -> Head | None:
        """The adapter's classifier head, if it is for `choose` on an encoder."""

    @property
    def offsets(self) -> Sequence[float]:
        """Subtracted from the scores of the labels, in their order; empty for none."""

    def prefix(self, rows: int) -> Prefix | None:
        """The trained prefix for `rows` rows, made anew at each call; None except for prefix tuning."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A base without an adapter, or whose layers others adapt, as a stack's slots.

    Args:
        model: the causal language model or the encoder.
        head: of the adapter that is in a slot, if it has one.
        offsets: as of any adapted model.
    """

    model: Any
    head: Head | None = None
    offsets: tuple[float, ...] = ()

    def prefix(self, rows: int) -> None:  # noqa: ARG002 - neither has one
        """None."""
        return


def answer_sums(adapted: AdaptedModel, batch: QuestionBatch) -> Tensor:
    """(A,) score of each answer: the sum of its tokens' log-probabilities, or its similarity to its question.

    Args:
        adapted: model that answers.
        batch: B questions with A answers in all, on the model's device.
    """
    classes = None if adapted.head is None else adapted.head.classes
    sums = batch.forward(adapted.model, classes=classes, prefix=adapted.prefix(len(batch.input_ids)))
    if not len(adapted.offsets):
        return sums
    return sums - sums.new_tensor(adapted.offsets).repeat(len(batch.counts)) * batch.lengths
