"""Requests to rank and to recommend, their answers, and how scores become them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from shopfit.adapter.finite import not_finite
from shopfit.adapter.score_fusion import ADAPTER, softmax
from shopfit.merchant.catalog import Catalog
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.tasks import Task
from shopfit.tasks.predictions import Floats
from shopfit.tasks.requests import Answer, Request
from shopfit.tasks.scored import Parts

if TYPE_CHECKING:
    from shopfit.tasks.tenant import Tenant


@dataclass(frozen=True, slots=True)
class RankRequest(Request):
    """Asks which items fit best.

    Args:
        adapter: whose answer is wanted.
        fields: what the recipe's prompt shows, by name.
        candidates: ids to rank (titles, without a catalog), each once, 10,000 at most; by default the catalog, less
            what is out of stock or in the history; of more than 2,000 items, the 200 of them that search finds.
        documents: texts to rank in place of items, 10,000 at most: each is read as the title of an item is, and has its
            place as its id, "0" and so on. A blend has no popularity of them.
        top: how many to return, 1 or more; the recipe's `serve.top` by default.
    """

    task: ClassVar[Task] = "rank"

    candidates: Sequence[str] | None = None
    top: int | None = None
    documents: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class RankedItem:
    """One item of a ranking.

    Args:
        id: in the merchant's catalog; of a document, its place.
        title: as the catalog prints it; of a document, its text.
        score: higher is better, comparable within one answer only: mean log-probability a token, or the score
            fusion's sum.
        share: probability that it is the right one of all that were ranked, 0 to 1, as the adapter was trained to give
            it: the softmax over all of them of the scores by the temperature of training, or of the fusion's sums.
        place: of it in what was ranked, from 0: among the request's candidates or documents, else in the order of the
            catalog; of a recommendation or a catalog that was searched first, in the order of the search.
    """

    id: str
    title: str
    score: float
    share: float
    place: int


@dataclass(frozen=True, slots=True)
class RankAnswer(Answer):
    """A ranking.

    Args:
        items: best first.
    """

    items: tuple[RankedItem, ...]

    @property
    def lines(self) -> list[str]:
        """An item a line."""
        return [f"{item.score:7.3f}  {item.title}  ({item.id})" for item in self.items]

    def raw(self, labels: Sequence[str], pool: Sequence[str]) -> list[float]:
        """The scores, in the order of the pool."""
        score = {item.id: item.score for item in self.items}
        return [score[item] for item in pool]


@dataclass(frozen=True, slots=True)
class RecommendRequest(Request):
    """Asks what a shopper should see: search retrieves items, rules filter them, the adapter ranks them.

    Args:
        adapter: whose answer is wanted, of a `rank` recipe.
        fields: what the recipe's prompt shows, by name, such as `query` and `history`.
        k: how many to return, 1 or more; the recipe's `serve.top` by default.
        rules: the request's own, besides those of the recipe: an item must pass both.
    """

    task: ClassVar[Task] = "rank"

    k: int | None = None
    rules: Rules | None = None


@dataclass(frozen=True, slots=True)
class RecommendedItem(RankedItem):
    """One recommendation.

    Args:
        id: in the merchant's catalog.
        title: as the catalog prints it.
        score: as in a ranking.
        share: as in a ranking, among all that the search found.
        place: in the order of the search.
        reasons: score of each stage that found or ranked it: "bm25", "adapter", and where the engine has an encoder,
            "minilm" and "history".
    """

    reasons: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RecommendAnswer(RankAnswer):
    """Recommendations.

    Args:
        items: best first; empty if no item passes the rules.
    """

    items: tuple[RecommendedItem, ...]


def _scores_and_shares(tenant: "Tenant", scores: Floats, others: Parts) -> tuple[Floats, Floats]:
    """(C,) scores of items, and the softmax of them as logits."""
    logits = scores / tenant.recipe.tune.temperature
    if tenant.blend is not None and others:
        scores = logits = tenant.blend.together({ADAPTER: logits, **others})
    if not np.isfinite(scores).all():
        raise not_finite()
    return scores, softmax(logits) if len(logits) else logits


def ranking(request: RankRequest, tenant: "Tenant", pool: Sequence[str], scores: Floats, others: Parts) -> RankAnswer:
    """The C items of a pool, or its texts, best score first."""
    whole, shares = _scores_and_shares(tenant, scores, others)
    order = sorted(range(len(pool)), key=lambda place: -whole[place])
    items = (
        RankedItem(
            pool[place] if request.documents is None else str(place),
            _title(tenant.catalog, pool[place]),
            float(whole[place]),
            float(shares[place]),
            place,
        )
        for place in order[: request.top or tenant.recipe.serve.top]
    )
    return RankAnswer(tuple(items))


def recommendations(
    request: RecommendRequest,
    tenant: "Tenant",
    found: Mapping[str, Mapping[str, float]],
    scores: Floats,
    others: Parts,
) -> RecommendAnswer:
    """The items that search found, best score first, with the score of each stage."""
    names, (whole, shares) = list(found), _scores_and_shares(tenant, scores, others)
    items = []
    for place in sorted(range(len(names)), key=lambda place: -whole[place])[: request.k or tenant.recipe.serve.top]:
        item, reasons = names[place], dict(found[names[place]])
        if len(scores):  # empty where the blend leaves the adapter out
            reasons["adapter"] = float(scores[place])
        title, score, share = _title(tenant.catalog, item), float(whole[place]), float(shares[place])
        items.append(RecommendedItem(item, title, score, share, place, reasons))
    return RecommendAnswer(tuple(items))


def _title(catalog: Catalog | None, item: str) -> str:
    return item if catalog is None else catalog[item].title
