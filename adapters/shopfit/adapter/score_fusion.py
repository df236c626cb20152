"""Score fusion: the weighted sum of an adapter's score and simpler scores, with weights fitted to held-out examples.

rank      adapter, popularity, bm25, minilm (cosine with the query, or with the history if there is no query) and
          history (cosine with the history, if there is a query too)
choose    adapter, majority, like-rate, item-likes, and minilm (cosine with the mean of each label's examples)

Every part is on the scale of logits, so that weights near 1 are ordinary ones.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from shopfit.errors import Problem
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.search import Embed, Floats, direction
from shopfit.merchant.statistics import item_likes, label_shares, likes, popularity, positive_place
from shopfit.recipe.tasks import TASKS, Task

ADAPTER, POPULARITY, BM25, MINILM, HISTORY = "adapter", "popularity", "bm25", "minilm", "history"
MAJORITY, LIKE_RATE, ITEM_LIKES = "majority", "like-rate", "item-likes"
_LEAST = 1e-300  # smallest probability that a logarithm is taken of
_BM25_UNIT, _COSINE_UNIT = 5.0, 0.1  # a difference that counts as about one logit
_UNSEEN = 2  # prior likes and dislikes of every item


class FusionFacts(BaseModel):
    """Statistics of a merchant's examples that the parts of a blend are computed from.

    Args:
        popularity: rank: for each item, the number of examples with it among the right ones or in the history.
        shares: choose: share of each label among the examples, in the order of labels.
        centroids: choose: mean direction of each label's texts in the encoder's space, in the order of labels.
        likes: choose: for each item, the numbers of examples that like and dislike it, if rows name items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    popularity: dict[str, int] = {}
    shares: list[float] = []
    centroids: list[list[float]] = []
    likes: dict[str, tuple[int, int]] = {}


class ScoreFusion(FusionFacts):
    """The content of a bundle's `blend.json`.

    Args:
        weights: by part; parts that are not named have weight 0.
    """

    weights: dict[str, float] = Field(min_length=1)

    @property
    def encoded(self) -> bool:
        """Whether answering needs a sentence encoder."""
        return MINILM in self.weights or HISTORY in self.weights

    def together(self, parts: Mapping[str, Floats]) -> Floats:
        """The weighted sum of the parts that have a weight."""
        total: Floats = np.sum([weight * parts[name] for name, weight in self.weights.items()], axis=0)
        return total


_PARTS: dict[Task, frozenset[str]] = {
    "rank": frozenset({ADAPTER, POPULARITY, BM25, MINILM, HISTORY}),
    "choose": frozenset({ADAPTER, MAJORITY, LIKE_RATE, ITEM_LIKES, MINILM}),
    "generate": frozenset(),
}


def fusion_problems(blend: ScoreFusion, task: Task, labels: int) -> list[Problem]:
    """Why a blend does not fit an adapter; empty if it does.

    Args:
        blend: from a bundle.
        task: of the recipe.
        labels: number of the adapter's labels.
    """
    problems = [
        Problem("weights", f"{name!r} is no part of a blend", ", ".join(sorted(_PARTS[task])))
        for name in blend.weights
        if name not in _PARTS[task]
    ]
    if TASKS[task].labels:
        if len(blend.shares) != labels or min(blend.shares, default=1) <= 0:
            problems.append(Problem("shares", f"{len(blend.shares)} numbers", f"{labels} numbers above 0"))
        if blend.centroids and (len(blend.centroids) != labels or len({len(row) for row in blend.centroids}) != 1):
            problems.append(Problem("centroids", f"{len(blend.centroids)} rows", f"{labels} rows of one length"))
    counts = [*blend.popularity.values(), *(count for pair in blend.likes.values() for count in pair)]
    if min(counts, default=0) < 0:
        problems.append(Problem("popularity and likes", str(min(counts)), "0 or more"))
    return problems


def rank_facts(examples: Sequence[Example]) -> FusionFacts:
    """The statistics for `rank_parts`."""
    return FusionFacts(popularity=popularity(examples))


def rank_parts(facts: FusionFacts, found: Mapping[str, Floats], pool: Sequence[str]) -> dict[str, Floats]:
    """Every part but the adapter's, for C candidates: arrays (C,).

    Args:
        facts: from `rank_facts`.
        found: their search scores, as `CatalogIndex.scores` returns them.
        pool: ids of the candidates.
    """
    counts = np.array([facts.popularity.get(item, 0) for item in pool], np.float64)
    parts = {POPULARITY: np.log1p(counts), HISTORY: np.zeros(len(pool))}  # a request may have no history
    units = {BM25: _BM25_UNIT, MINILM: _COSINE_UNIT, HISTORY: _COSINE_UNIT}
    return parts | {name: found[name] / unit for name, unit in units.items() if name in found}


def choose_facts(
    examples: Sequence[Example], labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None
) -> FusionFacts:
    """The statistics for `choose_parts` of L labels; without an encoder there are no centroids."""
    shares, likes = label_shares(examples, labels), item_likes(examples)
    if embed is None:
        return FusionFacts(shares=shares, likes=likes)
    vectors = embed([text(example) for example in examples])
    centroids = []
    for label in labels:
        mine = [vectors[place] for place, example in enumerate(examples) if example.label == label]
        toward = direction(np.stack(mine)) if mine else np.zeros(vectors.shape[1])
        centroids.append([round(float(number), 6) for number in toward])
    return FusionFacts(shares=shares, centroids=centroids, likes=likes)


def choose_parts(
    facts: FusionFacts,
    labels: Sequence[str],
    fields: Fields,
    text: str,
    embed: Embed | None,
) -> dict[str, Floats]:
    """Every part but the adapter's, for L labels: arrays (L,).

    Args:
        facts: from `choose_facts`.
        labels: L of them.
        fields: of the request.
        text: of the prompt's fields.
        embed: turns texts into vectors; None to leave centroids out.
    """
    parts = {MAJORITY: np.log(np.asarray(facts.shares, np.float64))}
    if len(labels) == 2 and (rate := likes(fields)) is not None:
        parts[LIKE_RATE] = _for(labels, np.log(rate / (1 - rate)))
        if isinstance(item := fields.get("item"), str):
            liked, disliked = facts.likes.get(item, (0, 0))
            parts[ITEM_LIKES] = _for(labels, np.log((liked + _UNSEEN) / (disliked + _UNSEEN)))
    if facts.centroids and embed is not None:
        parts[MINILM] = np.asarray(facts.centroids, np.float64) @ embed([text])[0].astype(np.float64) / _COSINE_UNIT
    return parts


def _for(labels: Sequence[str], logit: float) -> Floats:
    """(2,) a logit for the label that means "liked", 0 for the other."""
    return np.array([logit if place == positive_place(labels) else 0.0 for place in range(2)])


def log_shares(probabilities: Floats) -> Floats:
    """Logarithms of probabilities, finite for 0 too."""
    return np.log(np.maximum(probabilities, _LEAST))
