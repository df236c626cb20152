"""What a system answered on a test set, in one shape a task, whatever the system was."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChoosePredictions:
    """N choices among L labels.

    Args:
        labels: the L labels.
        probabilities: (N, L), rows sum to 1.
        gold: (N,) index of the right label.
    """

    labels: tuple[str, ...]
    probabilities: Floats
    gold: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RankPredictions:
    """N rankings.

    Args:
        candidates: N tuples of item ids.
        scores: N arrays, one score a candidate; higher is better.
        relevant: N sets of the right ids.
        catalog_size: items that could have been recommended, for coverage.
    """

    candidates: tuple[tuple[str, ...], ...]
    scores: tuple[Floats, ...]
    relevant: tuple[frozenset[str], ...]
    catalog_size: int


@dataclass(frozen=True, slots=True)
class GeneratePredictions:
    """N generated answers.

    Args:
        outputs: N texts as generated.
        gold: N right answers, text or JSON objects.
    """

    outputs: tuple[str, ...]
    gold: tuple[Any, ...]


Predictions = ChoosePredictions | RankPredictions | GeneratePredictions


def together(parts: Sequence[ChoosePredictions]) -> ChoosePredictions:
    """The choices of one or more parts of a test set, all among the same labels."""
    return ChoosePredictions(
        parts[0].labels,
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.gold for part in parts]),
    )


def pooled(parts: Sequence[Predictions]) -> Predictions:
    """The answers of one or more parts of a test set, all of one task and among the same labels, as one.

    Raises:
        ValueError: if they are of several tasks.
    """
    choices = [part for part in parts if isinstance(part, ChoosePredictions)]
    rankings = [part for part in parts if isinstance(part, RankPredictions)]
    if len(choices) == len(parts):
        return together(choices)
    if len(rankings) == len(parts):
        return RankPredictions(
            tuple(pool for part in rankings for pool in part.candidates),
            tuple(scores for part in rankings for scores in part.scores),
            tuple(right for part in rankings for right in part.relevant),
            rankings[0].catalog_size,
        )
    texts = [part for part in parts if isinstance(part, GeneratePredictions)]
    if len(texts) != len(parts):
        raise ValueError("only answers to one task can be pooled")
    return GeneratePredictions(
        tuple(text for part in texts for text in part.outputs), tuple(right for part in texts for right in part.gold)
    )
