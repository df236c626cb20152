"""What scoring and generation need to know of a base with an adapter on it, in training or finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from shopfit.adapter.head import Head
from shopfit.base.meaning import Pairs, answer_nearness, pair
from shopfit.base.prefix import Prefix
from shopfit.base.prompt import Question
from shopfit.base.scoring import Tree, answer_log_probs, plant


class Voice(Protocol):
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


def lay_out(questions: Sequence[Question], pad: int, *, encoder: bool, headed: bool = False) -> Tree | Pairs:
    """Lay questions out for one forward: as a tree for a decoder, as pairs of texts for an encoder.

    Args:
        questions: B of them.
        pad: token id that fills rows up.
        encoder: which of the two.
        headed: whether answers are `(row,)` of a head.
    """
    return pair(questions, pad, headed=headed) if encoder else plant(questions, pad)


def answer_sums(voice: Voice, asked: Tree | Pairs) -> Tensor:
    """(A,) score of each answer: the sum of its tokens' log-probabilities, or how near it is to its question.

    Args:
        voice: who answers.
        asked: B questions with A answers in all, on the model's device.
    """
    if isinstance(asked, Pairs):
        return answer_nearness(voice.model, asked, None if voice.head is None else voice.head.rows)
    return answer_log_probs(voice.model, asked, voice.prefix(len(asked.input_ids)))
