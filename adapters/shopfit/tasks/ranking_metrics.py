"""Metrics of one ranking. Of items of equal score, a metric is its expected value over their orders.

So neither a lucky file order nor a constant score gains anything (McSherry & Najork, ECIR 2008).
"""

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ranking:
    """C items by score.

    Args:
        above: (C,) items that score strictly higher than each item.
        tied: (C,) items of the same score, itself included.
        right: (C,) whether the item is relevant.
        relevant: relevant items in all, those that are no candidates included; these are never found.
    """

    above: NDArray[np.int64]
    tied: NDArray[np.int64]
    right: NDArray[np.bool_]
    relevant: int

    @classmethod
    def of(cls, items: tuple[str, ...] | list[str], scores: Floats, relevant: frozenset[str] | set[str]) -> "Ranking":
        """Rank C items.

        Args:
            items: their ids.
            scores: (C,), higher is better; nan is worst.
            relevant: ids of the right ones.
        """
        falling = -np.where(np.isnan(scores), -np.inf, scores)
        order = np.sort(falling)
        above = np.searchsorted(order, falling, "left")
        right = np.fromiter((item in relevant for item in items), np.bool_, len(items))
        return cls(above, np.searchsorted(order, falling, "right") - above, right, len(relevant))

    def in_top(self, k: int) -> Floats:
        """(C,) probability of each item to be among the first k."""
        shares: Floats = ((k - self.above) / self.tied).clip(0.0, 1.0)
        return shares

    def ndcg(self, k: int) -> float:
        """Normalised discounted cumulative gain of the first k, binary gains (Järvelin & Kekäläinen 2002)."""
        if not self.relevant:
            return 0.0
        gains = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])  # of the first 0, 1, … k places
        expected = (gains[np.minimum(self.above + self.tied, k)] - gains[np.minimum(self.above, k)]) / self.tied
        return float(expected[self.right].sum() / gains[min(self.relevant, k)])

    def hit_rate(self, k: int) -> float:
        """Probability that a relevant item is among the first k."""
        above, tied = self.above[self.right], self.tied[self.right]
        if (above + tied <= k).any():
            return 1.0
        cut = above < k
        if not cut.any():
            return 0.0
        size, places, hits = int(tied[cut][0]), k - int(above[cut][0]), int(cut.sum())
        return 1 - comb(size - hits, places) / comb(size, places)

    def reciprocal_rank(self) -> float:
        """Expected 1 / place of the first relevant item; 0 if none is a candidate."""
        if not self.right.any():
            return 0.0
        above = self.above[self.right].min()
        first = self.right & (self.above == above)
        size, hits = int(self.tied[first][0]), int(first.sum())
        places = np.arange(size - hits + 1)  # tied items before the first relevant one
        missed = np.concatenate([[1.0], np.cumprod((size - hits - places[:-1]) / (size - places[:-1]))])
        return float((missed * hits / (size - places) / (above + places + 1)).sum())
