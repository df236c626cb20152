"""How far the probability of a choice is from how often the choice is right (Guo et al. 2017, arXiv:1706.04599)."""

import numpy as np
from numpy.typing import NDArray

BINS = 15


def calibration_gaps(
    probabilities: NDArray[np.float64], gold: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The bin of each row's top probability, and right (0 or 1) minus that probability.

    The expected calibration error is the sum over bins of |sum of gaps|, divided by N.

    Args:
        probabilities: (N, L), rows sum to 1.
        gold: (N,) index of the right label.

    Returns:
        (N,) bins from 0 to `BINS` - 1, each open below and closed above, and (N,) gaps in [-1, 1].
    """
    confidence = probabilities.max(1)
    # rounded first: a probability such as 0.6 lies on a bin's edge, and floating point must not choose its side
    bins = np.ceil(np.round(confidence * BINS, 9)).astype(np.int64) - 1
    return bins.clip(0, BINS - 1), (probabilities.argmax(1) == gold) - confidence
