"""`rank`: items by score. Ties share their places (see `ranking`)."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from pydantic import Field

from shopfit.adapter.score_fusion import ADAPTER, BM25, COSINE_UNIT, HISTORY, MINILM, ScoreFusion
from shopfit.base.merchant_search import catalog_index
from shopfit.base.prompt import Prompter
from shopfit.errors import Problem
from shopfit.merchant.catalog import Catalog, Item
from shopfit.merchant.examples import Example, Fields, seen
from shopfit.merchant.histories import past_items
from shopfit.merchant.item_sampling import draw_others
from shopfit.merchant.search import CatalogIndex, Embed, titles_index
from shopfit.merchant.statistics import popularity
from shopfit.recipe.schema import Recipe, Tune
from shopfit.recipe.tasks import Task
from shopfit.tasks.metric import Weighted, mean_of_rows, metric
from shopfit.tasks.predictions import Floats, Predictions
from shopfit.tasks.rank_answers import RankAnswer, RankRequest
from shopfit.tasks.ranking_metrics import Ranking
from shopfit.tasks.row_answers import SHOWN_ITEMS, RankedRow, RowAnswer
from shopfit.tasks.scored import FusionRow, HeldOutSet, Parts, ScoredTask
from shopfit.tasks.system import Answers, Learned, System
from shopfit.tasks.task import Pool, Rows, TrainingBatch, TrainingQuestion

if TYPE_CHECKING:
    from torch import Tensor

    from shopfit.adapter.head import Head
    from shopfit.base.scoring.questions import Question

POPULARITY = "popularity"
_BM25_UNIT = 5.0  # a difference that counts as about one logit
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


class RankFusion(ScoreFusion):
    """Parts: adapter, popularity, bm25, minilm and history, the cosines with the query and with the history.

    Without a query, minilm is the cosine with the history, and there is no history.

    Args:
        popularity: for each item, the number of examples with it among the right ones or in the history.
    """

    parts: ClassVar[frozenset[str]] = frozenset({ADAPTER, POPULARITY, BM25, MINILM, HISTORY})

    popularity: dict[str, int] = Field({})

    def problems(self, labels: int) -> list[Problem]:
        """Why it does not fit an adapter; empty if it does."""
        least = min(self.popularity.values(), default=0)
        return super().problems(labels) + ([Problem("popularity", str(least), "0 or more")] if least < 0 else [])


class Rank(ScoredTask):
    """Ranks a catalog's items, or plain titles."""

    name: ClassVar[Task] = "rank"
    request = RankRequest
    fusion = RankFusion

    def question(
        self, prompter: Prompter, labels: Sequence[str], fields: Fields, pool: Sequence[str], head: "Head | None"
    ) -> "Question":
        """The question which items fit; without answers if there are none."""
        from shopfit.base.scoring.questions import Question

        prompt, *more = prompter.asking(fields)
        answers = tuple(prompter.item(item) for item in pool)
        return Question(prompt, answers, tuple(more), recurring=prompter.asks_by_items(fields))

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

    def wanted(self, example: Example, catalog: Catalog | None) -> str:
        """The titles of the relevant items."""
        titles = (item if catalog is None or item not in catalog else catalog[item].title for item in example.relevant)
        return "; ".join(titles)

    def judge(self, example: Example, answer: RankAnswer, labels: Sequence[str]) -> RowAnswer:
        """The first items; merit is the reciprocal place of the first relevant one."""
        relevant = set(example.relevant)
        places = [place for place, item in enumerate(answer.items, 1) if item.id in relevant]
        first = [RankedRow(one.id, one.title, one.share, one.id in relevant) for one in answer.items[:SHOWN_ITEMS]]
        merit = 1 / places[0] if places else 0.0
        return RowAnswer(
            first[0].title if first else "",
            merit,
            right=merit == 1.0,
            sure=first[0].share if first else None,
            items=tuple(first),
        )

    def training_answers(self, question: TrainingQuestion) -> tuple[tuple[Any, ...], tuple[bool, ...]]:
        """The relevant items, then some that are not."""
        example, others = question.example, question.negatives()
        items = (*example.relevant, *others)
        answers = tuple(question.prompter.item(item, title=example.titles) for item in items)
        return answers, (True,) * len(example.relevant) + (False,) * len(others)

    def loss(self, sums: "Tensor", batch: TrainingBatch, temperature: float, tune: Tune | None = None) -> "Tensor":
        """Softmax of each relevant item against sampled items that are not relevant."""
        from shopfit.tasks.losses import cross_entropy

        scores = sums / batch.questions.lengths / temperature
        return (batch.weights * cross_entropy(scores, batch.gold, batch.questions.counts)).mean()

    def priors(
        self,
        recipe: Recipe,
        train: Rows,
        *,
        labels: Sequence[str] = (),
        catalog: Catalog | None = None,
    ) -> list[System]:
        """Popularity: how many training rows each item was right for, or stood in the history of."""
        counts = popularity(train)

        def answer(_: Rows, pools: Sequence[Sequence[str]]) -> list[list[int]]:
            return [[counts.get(item, 0) for item in pool] for pool in pools]

        return [System("popularity", "prior", self, answer, catalog=catalog)]

    def fit(self, name: str, learned: Learned) -> System:
        """BM25, or cosine in the encoder's space. Neither is fitted."""
        answer = _bm25(learned) if name == "bm25" else _cosine(learned)
        return System(name, "baseline", self, answer, catalog=learned.catalog, fitted=False)

    def facts(self, examples: Rows, labels: Sequence[str], text: Callable[[Example], str], embed: Embed | None) -> Any:
        """Popularity."""
        return {"popularity": popularity(examples)}

    def fusion_rows(
        self, recipe: Recipe, held: HeldOutSet, predictions: Predictions, embed: Embed | None
    ) -> list[FusionRow]:
        """The adapter's scores as logits, and the parts beside them."""
        assert isinstance(predictions, RankPredictions)
        rows: list[FusionRow] = []
        prompter, facts = held.prompter, RankFusion(weights={ADAPTER: 1.0}, popularity=popularity(held.train))
        whole = None if prompter.catalog is None else catalog_index(prompter.catalog, embed)
        said = zip(held.valid, predictions.candidates, predictions.scores, predictions.relevant, strict=True)
        for example, pool, scores, relevant in said:
            index = whole or titles_index(pool, embed)
            history = past_items(example.fields, prompter.history)
            found = index.scores(prompter.query_text(example.fields), history, pool)
            right = np.array([item in relevant for item in pool], np.float64)
            rows.append(({ADAPTER: scores / recipe.tune.temperature, **item_parts(facts, found, pool)}, right))
        return rows

    def fused(self, held_out: Predictions, totals: Sequence[Floats]) -> RankPredictions:
        """The same rows with other scores."""
        assert isinstance(held_out, RankPredictions)
        return replace(held_out, scores=tuple(totals))

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


TASK = Rank()


def item_parts(facts: RankFusion, found: Mapping[str, Floats], pool: Sequence[str]) -> Parts:
    """Every part but the adapter's, for C candidates: arrays (C,).

    Args:
        facts: popularity.
        found: their search scores, as `CatalogIndex.scores` returns them.
        pool: ids of the candidates.
    """
    counts = np.array([facts.popularity.get(item, 0) for item in pool], np.float64)
    parts = {POPULARITY: np.log1p(counts), HISTORY: np.zeros(len(pool))}  # a request may have no history
    units = {BM25: _BM25_UNIT, MINILM: COSINE_UNIT, HISTORY: COSINE_UNIT}
    return parts | {name: found[name] / unit for name, unit in units.items() if name in found}


def _bm25(learned: Learned) -> Answers:
    """BM25 of the example's text over the items' texts."""

    def answer(rows: Rows, pools: Sequence[Sequence[str]]) -> list[Floats]:
        index = _index(learned, pools, None)
        return [
            index.scores(learned.text(row), (), pool, {"bm25"}.__contains__)["bm25"]
            for row, pool in zip(rows, pools, strict=True)
        ]

    return answer


def _cosine(learned: Learned) -> Answers:
    """An item's cosine with the words of the example; where it has none, its largest with any item of its history."""
    query_text = learned.query_text
    history = learned.history if learned.history is not None else learned.catalog

    def answer(rows: Rows, pools: Sequence[Sequence[str]]) -> list[Floats]:
        index = _index(learned, pools, learned.embed)
        learned.embed([query_text(row) for row in rows])  # all at once is faster
        return [
            index.scores(query_text(row), _past(row, history), pool, {"minilm"}.__contains__)["minilm"]
            for row, pool in zip(rows, pools, strict=True)
        ]

    return answer


def _past(row: Example, history: Catalog | None) -> list[Item]:
    """The items of a row's history; without a catalog of them, its titles."""
    known = Catalog.of_titles(iter(seen(row.fields))) if history is None else history
    return past_items(row.fields, known)


def _index(learned: Learned, pools: Sequence[Sequence[str]], embed: Embed | None) -> CatalogIndex:
    """The index of the catalog, which others use, too; or one of titles in the pools that are no items, by `embed`."""
    catalog = learned.catalog or Catalog({})
    titles = dict.fromkeys(item for pool in pools for item in pool if item not in catalog)
    if titles or learned.catalog is None:
        return CatalogIndex(Catalog({**catalog, **Catalog.of_titles(iter(titles))}), embed)
    return catalog_index(catalog, learned.embed)


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
