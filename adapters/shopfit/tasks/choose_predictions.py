"""What was answered to `choose`, and its metrics."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shopfit.recipe.tasks import Task
from shopfit.tasks.calibration_error import BINS, calibration_gaps
from shopfit.tasks.metric import Weighted, mean_of_known, mean_of_rows, metric, ratio
from shopfit.tasks.predictions import Floats, Predictions


@dataclass(frozen=True, slots=True)
class ChoosePredictions(Predictions):
    """N choices among L labels.

    Args:
        labels: the L labels.
        probabilities: (N, L), rows sum to 1.
        gold: (N,) index of the right label.
    """

    task: ClassVar[Task] = "choose"

    labels: tuple[str, ...]
    probabilities: Floats
    gold: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """N, the rows predicted."""
        return len(self.gold)

    @property
    def chosen(self) -> NDArray[np.int64]:
        """(N,) index of the most probable label, the first of equals."""
        chosen: NDArray[np.int64] = self.probabilities.argmax(1)
        return chosen

    def labels_seen(self, known: Collection[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The labels that a metric over labels depends on, and those of them that no row has."""
        seen = {self.labels[place] for place in self.gold}
        asked = tuple(label for label in self.labels if known is None or label in known or label in seen)
        return asked, tuple(label for label in asked if label not in seen)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The choices of one or more parts of a test set, all among the same labels."""
        return cls(
            parts[0].labels,
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.gold for part in parts]),
        )


@metric("accuracy", mean=True)
def accuracy(predictions: ChoosePredictions, _: int) -> Weighted:
    """Share of rows whose most probable label is right."""
    return mean_of_rows(predictions.chosen == predictions.gold)


@metric("macro_f1", by_label=True)
def macro_f1(predictions: ChoosePredictions, _: int) -> Weighted:
    """Unweighted mean of the labels' F1; labels that are neither right nor chosen anywhere are left out."""
    counted = _counted(predictions)

    def of(weights: Floats) -> Floats:
        hits, right, guessed = np.split(weights @ counted, 3, 1)  # each (B, L)
        return mean_of_known(ratio(2 * hits, right + guessed))

    return of


@metric("balanced_accuracy", by_label=True)
def balanced_accuracy(predictions: ChoosePredictions, _: int) -> Weighted:
    """Mean recall of the labels that are right somewhere."""
    counted = _counted(predictions)

    def of(weights: Floats) -> Floats:
        hits, right, _ = np.split(weights @ counted, 3, 1)  # each (B, L)
        return mean_of_known(ratio(hits, right))

    return of


@metric("auc", by_label=True)
def auc(predictions: ChoosePredictions, _: int) -> Weighted:
    """Area under the ROC curve.

    Of two labels, the second in sorted order is positive (the area is the same for the other one). Of more: each label
    against the rest, averaged over the labels that some rows have and some have not. With one class only it is nan.
    """
    # the share of (positive, negative) pairs in the right order, ties a half (Mann & Whitney 1947)
    probabilities, gold = predictions.probabilities, predictions.gold
    columns = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    sides = []
    for column in columns:
        order = np.argsort(probabilities[:, column], kind="stable")
        rising = probabilities[order, column]
        starts = np.flatnonzero(np.concatenate([[True], rising[1:] != rising[:-1]]))  # of each run of equal scores
        sides.append((order, starts, (gold[order] == column).astype(np.float64)))

    def of(weights: Floats) -> Floats:
        areas = np.empty((len(weights), len(sides)))
        for place, (order, starts, positive) in enumerate(sides):
            sorted_weights = weights[:, order]
            above = np.add.reduceat(sorted_weights * positive, starts, 1)  # (B, runs) positives of each score
            below = np.add.reduceat(sorted_weights * (1 - positive), starts, 1)
            pairs = (above * (np.cumsum(below, 1) - below / 2)).sum(1)
            areas[:, place] = ratio(pairs, above.sum(1) * below.sum(1))
        return mean_of_known(areas)

    return of


@metric("log_loss", by_label=True, bounded=False)
def log_loss(predictions: ChoosePredictions, _: int) -> Weighted:
    """Mean negative log-probability of the right label, in nats. Lower is better."""
    tiny = np.finfo(np.float64).eps  # as scikit-learn clips it
    right = predictions.probabilities[np.arange(predictions.rows), predictions.gold]
    return mean_of_rows(-np.log(right.clip(tiny, 1 - tiny)))


@metric("ece", drifts=True, paper="Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599)")
def ece(predictions: ChoosePredictions, _: int) -> Weighted:
    """Expected calibration error of the most probable label, 15 bins of equal width. Lower is better."""
    bins, gaps = calibration_gaps(predictions.probabilities, predictions.gold)
    spread = np.where(bins[:, None] == np.arange(BINS), gaps[:, None], 0.0)  # (N, BINS)
    return lambda weights: np.abs(weights @ spread).sum(1) / weights.sum(1)


def _counted(predictions: ChoosePredictions) -> Floats:
    """(N, 3 L) whether each label is right and chosen, right, and chosen in a row."""
    labels = np.arange(predictions.probabilities.shape[1])
    is_gold, is_chosen = predictions.gold[:, None] == labels, predictions.chosen[:, None] == labels  # (N, L)
    return np.hstack([is_gold & is_chosen, is_gold, is_chosen]).astype(np.float64)
