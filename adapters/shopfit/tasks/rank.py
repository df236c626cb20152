"""`rank`: items by score. Ties share their places (see `ranking`)."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, seen
from shopfit.merchant.item_sampling import draw_others
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import Task
from shopfit.tasks.metric import Weighted, mean_of_rows, metric
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.ranking import Ranking
from shopfit.tasks.task import Pool, Rows, TaskType, TrainingBatch, TrainingQuestion

if TYPE_CHECKING:
    from torch import Tensor

_NEVER_UNSEEN = -700.0  # log of a probability that is as good as 0, yet can be multiplied by 0


@dataclass(frozen=True, slots=True)
class RankPredictions(Predictions):
    """N rankings.

    Args:
        candidates: N tuples of item ids.
        scores: N arrays, one score a candidate; higher is better.
        relevant: N sets of the right ids.
        catalog_size: items that could have been recommended, for coverage.
    """

    task: ClassVar[Task] = "rank"

    candidates: tuple[Pool, ...]
    scores: tuple[Floats, ...]
    relevant: tuple[frozenset[str], ...]
    catalog_size: int

    @property
    def rows(self) -> int:
        """N, the rows predicted."""
        return len(self.scores)

    @property
    def rankings(self) -> list[Ranking]:
        """The N rankings, to compute metrics from."""
        return [Ranking.of(*row) for row in zip(self.candidates, self.scores, self.relevant, strict=True)]

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """The rankings of one or more parts of a test set."""
        return cls(
            tuple(pool for part in parts for pool in part.candidates),
            tuple(scores for part in parts for scores in part.scores),
            tuple(right for part in parts for right in part.relevant),
            parts[0].catalog_size,
        )


class Rank(TaskType):
    """Ranks a catalog's items, or plain titles."""

    def pools(self, recipe: Recipe, examples: Sequence[Example], catalog: Catalog | None) -> list[Pool]:
        """The items each example is to rank.

        A row's own candidates; else the catalog without the row's history (unless `data.repeats`), of which
        `evaluate.candidates` are sampled if it is larger, the same for every `tune.seed`. Without a catalog:
        every title that is relevant somewhere.
        """
        items = list(catalog or dict.fromkeys(item for example in examples for item in example.relevant))
        places = {item: place for place, item in enumerate(items)}
        return [_pool(recipe, example, items, places) for example in examples]

    def collect(
        self, labels: Sequence[str], rows: Rows, pools: Sequence[Pool], answers: Sequence[Any], catalog: Catalog | None
    ) -> RankPredictions:
        """Put N arrays of scores beside their candidates and the right ones."""
        relevant = tuple(frozenset(row.relevant) for row in rows)
        size = len(catalog) if catalog is not None else len({item for pool in pools for item in pool})
        return RankPredictions(tuple(pools), tuple(np.array(answer, np.float64) for answer in answers), relevant, size)

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """The relevant items, then some that are not."""
        example, others = question.example, question.negatives()
        items = (*example.relevant, *others)
        answers = tuple(question.prompter.item(item, title=example.titles) for item in items)
        return answers, (True,) * len(example.relevant) + (False,) * len(others)

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, smoothing: float = 0.0) -> "Tensor":
        """Softmax of each relevant item against sampled items that are not relevant."""
        from shopfit.tasks.losses import cross_entropy

        scores = sums / batch.questions.lengths / temperature
        return (batch.weights * cross_entropy(scores, batch.gold, batch.questions.counts)).mean()

    @property
    def columns(self) -> dict[str, Any]:
        """Ids with their scores, and the relevant ids."""
        return {"predictions": {"items": ["string"], "scores": ["float64"]}, "references": ["string"]}

    def from_columns(self, predictions: Any, references: Any, *, catalog_size: int = 0, **_: Any) -> RankPredictions:
        """Predictions of N rankings and N lists of right ids; `catalog_size` is for coverage@k."""
        return RankPredictions(
            tuple(tuple(row["items"]) for row in predictions),
            tuple(np.asarray(row["scores"], np.float64) for row in predictions),
            tuple(frozenset(relevant) for relevant in references),
            catalog_size,
        )


@metric(
    "ndcg@k",
    mean=True,
    paper="Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002",
)
def ndcg(predictions: RankPredictions, k: int) -> Weighted:
    """Normalised discounted cumulative gain of the first k places."""
    return mean_of_rows([ranking.ndcg(k) for ranking in predictions.rankings])


@metric("hr@k", mean=True)
def hit_rate(predictions: RankPredictions, k: int) -> Weighted:
    """Share of rows with a relevant item in the first k places."""
    return mean_of_rows([ranking.hit_rate(k) for ranking in predictions.rankings])


@metric("mrr", mean=True)
def mrr(predictions: RankPredictions, _: int) -> Weighted:
    """Mean reciprocal place of the first relevant item; it has no cut-off."""
    return mean_of_rows([ranking.reciprocal_rank() for ranking in predictions.rankings])


@metric("coverage@k", drifts=True)
def coverage(predictions: RankPredictions, k: int) -> Weighted:
    """Share of the catalog that is in the first k places of some row; nan without a catalog's size."""
    columns: dict[str, int] = {}
    shares = [ranking.in_top(k) for ranking in predictions.rankings]
    for items, share in zip(predictions.candidates, shares, strict=True):
        for place in np.flatnonzero(share):
            columns.setdefault(items[place], len(columns))
    unseen = np.zeros((predictions.rows, len(columns)))  # log-probability that the row does not show the item
    with np.errstate(divide="ignore"):
        for row, (items, share) in enumerate(zip(predictions.candidates, shares, strict=True)):
            shown = np.flatnonzero(share)
            unseen[row, [columns[items[place]] for place in shown]] = np.log1p(-share[shown]).clip(min=_NEVER_UNSEEN)
    size = predictions.catalog_size or np.nan

    def of(weights: Floats) -> Floats:
        return -np.expm1(weights @ unseen).sum(1) / size  # type: ignore[no-any-return]

    return of


def _pool(recipe: Recipe, example: Example, items: Sequence[str], places: Mapping[str, int]) -> Pool:
    if example.candidates is not None:
        return example.candidates
    left_out = set(example.relevant) | (set() if recipe.data.repeats else set(seen(example.fields)))
    room = max(0, recipe.evaluate.candidates - len(example.relevant))
    others = draw_others(random.Random(f"candidates/{example.id}"), items, places, left_out, room)
    # sorted, so that an item's place does not show whether it is relevant
    return tuple(sorted((*example.relevant, *others)))
