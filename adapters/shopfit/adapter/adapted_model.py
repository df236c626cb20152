"""What scoring and generation need to know of a base with an adapter on it, in training or finished."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shopfit.adapter.head import Head
from shopfit.base.prefix import Prefix
from shopfit.base.scoring.scorer import QuestionBatch


class AdaptedModel(Protocol):
    """A model that answers with an adapter, or bare."""

    @property
    def model(self) -> Any:
        """The causal language model or the encoder, adapter layers in it."""

    @property
    def head(self) -> Head | None:
        """What the adapter knows of its labels, if it is one for `choose` on an encoder."""

    def prefix(self, rows: int) -> Prefix | None:
        """What stands before each of `rows` rows, made anew at each call; None but for prefix tuning."""


@dataclass(frozen=True, slots=True)
class Bare:
    """A base without an adapter.

    Args:
        model: the causal language model or the encoder.
    """

    model: Any
    head: None = None

    def prefix(self, rows: int) -> None:  # noqa: ARG002 - a bare base has none
        """Nothing."""
        return


def answer_sums(adapted: AdaptedModel, batch: QuestionBatch) -> Tensor:
    """(A,) score of each answer: the sum of its tokens' log-probabilities, or how near it is to its question.

    Args:
        adapted: what answers.
        batch: B questions with A answers in all, on the model's device.
    """
    prototypes = None if adapted.head is None else adapted.head.prototypes
    return batch.forward(adapted.model, prototypes=prototypes, prefix=adapted.prefix(len(batch.input_ids)))
