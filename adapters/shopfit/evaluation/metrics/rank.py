"""Metrics of `rank`, over scores; equal scores share their places (see `ranking`).

predictions   N times {items: C ids, scores: C numbers}
references    N times the relevant ids
k             cut-off, 10 by default
catalog_size  items that could have been recommended, for coverage@k
"""

from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np

from shopfit.evaluation.metrics.local import LocalMetric
from shopfit.evaluation.metrics.ranking import Ranking

_INPUTS = __doc__ or ""


class RankMetric(LocalMetric):
    """A metric over scored items."""

    inputs = _INPUTS

    def row(self) -> dict[str, Any]:
        """Ids with scores, and ids."""
        ids = datasets.Sequence(datasets.Value("string"))
        return {
            "predictions": {"items": ids, "scores": datasets.Sequence(datasets.Value("float64"))},
            "references": ids,
        }

    def score(self, predictions: Any, references: Any, *, k: int = 10, **_: Any) -> float:
        """Mean over the rows; nan without rows."""
        merits = [self.of(ranking, k) for ranking in _rankings(predictions, references)]
        return float(np.mean(merits)) if merits else float("nan")

    def of(self, ranking: Ranking, k: int) -> float:
        """Merit of one row."""
        raise NotImplementedError


class Ndcg(RankMetric):
    """Normalised discounted cumulative gain of the first k places."""

    metric = "ndcg@k"
    citation_of = "Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002"

    def of(self, ranking: Ranking, k: int) -> float:
        """In [0, 1]."""
        return ranking.ndcg(k)


class HitRate(RankMetric):
    """Share of rows with a relevant item in the first k places."""

    metric = "hr@k"

    def of(self, ranking: Ranking, k: int) -> float:
        """In [0, 1]."""
        return ranking.hit_rate(k)


class Mrr(RankMetric):
    """Mean reciprocal place of the first relevant item."""

    metric = "mrr"

    def of(self, ranking: Ranking, _: int) -> float:
        """In [0, 1]; it has no cut-off."""
        return ranking.reciprocal_rank()


class Coverage(RankMetric):
    """Share of the catalog that is in the first k places of some row."""

    metric = "coverage@k"

    def score(self, predictions: Any, references: Any, *, k: int = 10, catalog_size: int = 0, **_: Any) -> float:
        """In [0, 1]; nan without rows or without a catalog's size."""
        if not predictions or not catalog_size:
            return float("nan")
        unseen: dict[str, float] = {}
        for row, ranking in zip(predictions, _rankings(predictions, references), strict=True):
            for item, share in zip(row["items"], ranking.in_top(k).tolist(), strict=True):
                unseen[item] = unseen.get(item, 1.0) * (1 - share)
        return sum(1 - probability for probability in unseen.values()) / catalog_size


def _rankings(predictions: Any, references: Any) -> Iterator[Ranking]:
    for row, relevant in zip(predictions, references, strict=True):
        yield Ranking.of(row["items"], np.asarray(row["scores"], np.float64), set(relevant))
