"""Score fusion: the weighted sum of an adapter's score and simpler scores, with weights fitted to held-out examples.

Which parts there are, and what they are computed from, is the task's: its file has a subclass. Every part is on the
scale of logits, so that weights near 1 are ordinary ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from shopfit.errors import BundleError, Problem
from shopfit.merchant.segments import Floats

ADAPTER, BM25, MINILM, HISTORY = "adapter", "bm25", "minilm", "history"
COSINE_UNIT = 0.1
"""A difference of cosines that counts as about one logit."""
_LEAST = 1e-300  # smallest probability that a logarithm is taken of


class ScoreFusion(BaseModel):
    """The content of a bundle's `blend.json`; a task's subclass adds what its parts are computed from.

    Args:
        weights: by part; parts that are not named have weight 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    parts: ClassVar[frozenset[str]] = frozenset({ADAPTER})
    biases: ClassVar[frozenset[str]] = frozenset()
    """Parts that need no fitted weight: together they may answer alone, and weights are drawn towards 1."""

    weights: dict[str, float] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _without_other_tasks(cls, values: Any) -> Any:
        """Drop what another task's parts need, empty: bundles of before have it."""
        if not isinstance(values, dict):
            return values
        return {name: value for name, value in values.items() if name in cls.model_fields or value not in ([], {})}

    @property
    def encoded(self) -> bool:
        """Whether answering needs a sentence encoder."""
        return MINILM in self.weights or HISTORY in self.weights

    def together(self, parts: Mapping[str, Floats]) -> Floats:
        """The weighted sum of the parts that have a weight."""
        total: Floats = np.sum([weight * parts[name] for name, weight in self.weights.items()], axis=0)
        return total

    def problems(self, labels: int) -> list[Problem]:  # noqa: ARG002 - for subclasses
        """Why it does not fit an adapter of so many labels; empty if it does."""
        return [
            Problem("weights", f"{name!r} is no part of a blend", ", ".join(sorted(self.parts)))
            for name in self.weights
            if name not in self.parts
        ]


def weighed(rows: Sequence[float] | Sequence[Sequence[float]], vector: Any, what: str) -> Floats:
    """The products of one or more rows of a blend with a text's vector.

    Args:
        rows: (D,) or (L, D) numbers.
        vector: (D,) of the sentence encoder.
        what: the rows are, for messages.

    Raises:
        BundleError: if they are of another encoder's dimension.
    """
    numbers = np.asarray(rows, np.float64)
    if numbers.shape[-1] != len(vector):
        raise BundleError(
            f"blend.json has {what} of {numbers.shape[-1]} numbers, and the sentence encoder has vectors of "
            f"{len(vector)}",
            next_step="bring the bundle again, or train it again",
        )
    product: Floats = numbers @ vector.astype(np.float64)
    return product


def log_shares(probabilities: Floats) -> Floats:
    """Logarithms of probabilities, finite for 0 too."""
    return np.log(np.maximum(probabilities, _LEAST))


def softmax(scores: Floats) -> Floats:
    """Numbers of any size to probabilities."""
    raised: Floats = np.exp(scores - scores.max())
    return raised / raised.sum()  # type: ignore[no-any-return]
