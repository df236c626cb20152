"""Metrics of `choose`, over probabilities: scikit-learn's where it has them.

predictions  (N, L) probabilities of the labels
references   (N,) index of the right label
"""

import warnings
from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from shopfit.evaluation.metrics.calibration import BINS, calibration_gaps
from shopfit.evaluation.metrics.local import LocalMetric

_INPUTS = __doc__ or ""


class ChooseMetric(LocalMetric):
    """A metric over label probabilities."""

    inputs = _INPUTS

    def row(self) -> dict[str, Any]:
        """A probability a label, and an index."""
        return {"predictions": datasets.Sequence(datasets.Value("float64")), "references": datasets.Value("int64")}

    def score(self, predictions: Any, references: Any, **_: Any) -> float:
        """The number, from (N, L) probabilities and (N,) indices; nan without rows."""
        gold = np.asarray(references, np.int64)
        return self.of(np.asarray(predictions, np.float64), gold) if len(gold) else float("nan")

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """The number, from at least one row."""
        raise NotImplementedError


class Accuracy(ChooseMetric):
    """Share of rows whose most probable label is right."""

    metric = "accuracy"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """In [0, 1]."""
        return float(sklearn_metrics.accuracy_score(gold, probabilities.argmax(1)))


class MacroF1(ChooseMetric):
    """Unweighted mean of the labels' F1; labels that are neither right nor chosen anywhere are left out."""

    metric = "macro_f1"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """In [0, 1]."""
        return float(sklearn_metrics.f1_score(gold, probabilities.argmax(1), average="macro", zero_division=0))


class BalancedAccuracy(ChooseMetric):
    """Mean recall of the labels that are right somewhere."""

    metric = "balanced_accuracy"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """In [0, 1]."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "y_pred contains classes not in y_true", UserWarning)
            warnings.filterwarnings("ignore", "A single label was found", UserWarning)
            return float(sklearn_metrics.balanced_accuracy_score(gold, probabilities.argmax(1)))


class Auc(ChooseMetric):
    """Area under the ROC curve.

    Of two labels, the second in sorted order is positive (the area is the same for the other one). Of more: each label
    against the rest, averaged over the labels that some rows have and some have not. With one class only it is nan.
    """

    metric = "auc"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """In [0, 1], or nan."""
        labels = range(1, 2) if probabilities.shape[1] == 2 else range(probabilities.shape[1])
        split = [label for label in labels if 0 < (gold == label).sum() < len(gold)]
        areas = [sklearn_metrics.roc_auc_score(gold == label, probabilities[:, label]) for label in split]
        return float(np.mean(areas)) if areas else float("nan")


class LogLoss(ChooseMetric):
    """Mean negative log-probability of the right label, in nats. Lower is better."""

    metric = "log_loss"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """At least 0."""
        return float(sklearn_metrics.log_loss(gold, probabilities, labels=_indices(probabilities)))


class Ece(ChooseMetric):
    """Expected calibration error of the most probable label, 15 bins of equal width. Lower is better."""

    metric = "ece"
    citation_of = "Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (arXiv:1706.04599)"

    def of(self, probabilities: NDArray[np.float64], gold: NDArray[np.int64]) -> float:
        """In [0, 1]."""
        bins, gaps = calibration_gaps(probabilities, gold)
        return float(np.abs(np.bincount(bins, gaps, BINS)).sum() / len(gold))


def _indices(probabilities: NDArray[np.float64]) -> Sequence[int]:
    return range(probabilities.shape[1])
