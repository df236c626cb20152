"""An adapter's score together with what can be said more simply: a few weights, learned from a merchant's examples.

rank      adapter, popularity, bm25 and minilm (cosine with the request and with what was seen before)
choose    adapter, majority, like-rate, and minilm (cosine with the mean of each label's examples)

Every part is on the scale of logits, so that weights near 1 are ordinary ones.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.counts import label_shares, likes, positive_place
from shopfit.merchant.examples import Example, Fields, seen
from shopfit.merchant.search import Embed, Floats, direction

ADAPTER, POPULARITY, BM25, MINILM, MAJORITY, LIKE_RATE = (
    "adapter",
    "popularity",
    "bm25",
    "minilm",
    "majority",
    "like-rate",
)
_LEAST = 1e-300  # probability that a logarithm is taken of
_BM25_UNIT, _COSINE_UNIT = 5.0, 0.1  # what makes a difference of about one logit


class Blend(BaseModel):
    """What `blend.json` in a bundle holds.

    Args:
        weights: by part; parts that are not named have none.
        popularity: rank: training examples that each item was right for.
        shares: choose: share of each label among the training examples, in the order of labels.
        centroids: choose: direction of each label's training texts in the encoder's space, in the order of labels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    weights: dict[str, float] = Field(min_length=1)
    popularity: dict[str, int] = {}
    shares: list[float] = []
    centroids: list[list[float]] = []

    def together(self, parts: Mapping[str, Floats]) -> Floats:
        """The weighted sum of the parts that have a weight."""
        total: Floats = np.sum([weight * parts[name] for name, weight in self.weights.items()], axis=0)
        return total


def rank_parts(popular: Mapping[str, int], found: Mapping[str, Floats], pool: Sequence[str]) -> dict[str, Floats]:
    """Every part but the adapter's, for C candidates: arrays (C,).

    Args:
        popular: training examples that each item was right for.
        found: what a search says of them, as `CatalogIndex.scores` returns it.
        pool: ids of the candidates.
    """
    parts = {POPULARITY: np.log1p(np.array([popular.get(item, 0) for item in pool], np.float64))}
    units = {BM25: _BM25_UNIT, MINILM: _COSINE_UNIT}
    return parts | {way: found[way] / unit for way, unit in units.items() if way in found}


def choose_facts(
    examples: Sequence[Example], labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None
) -> tuple[list[float], list[list[float]]]:
    """Shares and centroids of L labels; no centroids without an encoder."""
    shares = label_shares(examples, labels)
    if embed is None:
        return shares, []
    vectors = embed([text(example) for example in examples])
    centroids = []
    for label in labels:
        mine = [vectors[place] for place, example in enumerate(examples) if example.label == label]
        toward = direction(np.stack(mine)) if mine else np.zeros(vectors.shape[1])
        centroids.append([round(float(number), 6) for number in toward])
    return shares, centroids


def choose_parts(
    shares: Sequence[float],
    centroids: Sequence[Sequence[float]],
    labels: Sequence[str],
    fields: Fields,
    text: str,
    embed: Embed | None,
) -> dict[str, Floats]:
    """Every part but the adapter's, for L labels: arrays (L,).

    Args:
        shares: from `choose_facts`.
        centroids: from there; empty to do without.
        labels: L of them.
        fields: of the request.
        text: what its prompt shows.
        embed: turns texts into vectors; needed with centroids.
    """
    parts = {MAJORITY: np.log(np.asarray(shares, np.float64))}
    if len(labels) == 2 and (rate := likes(fields)) is not None:
        positive = positive_place(labels)
        logit = np.log(rate / (1 - rate))
        parts[LIKE_RATE] = np.array([logit if place == positive else 0.0 for place in range(2)])
    if centroids and embed is not None:
        parts[MINILM] = np.asarray(centroids, np.float64) @ embed([text])[0].astype(np.float64) / _COSINE_UNIT
    return parts


def log_shares(probabilities: Floats) -> Floats:
    """Logarithms of probabilities, of 0 too."""
    return np.log(np.maximum(probabilities, _LEAST))


def past_texts(fields: Fields, items: Catalog | None) -> list[str]:
    """Texts of the items of a history that are known."""
    return [items[item].text for item in seen(fields) if items is not None and item in items]
