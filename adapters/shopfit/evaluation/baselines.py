"""Baselines: simple models fitted to the same training rows as the adapter.

They use no prompter and load no encoder: texts and vectors come from two functions that are passed in.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from shopfit.errors import RecipeError
from shopfit.evaluation.systems import System
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example, seen
from shopfit.merchant.search import Embed, Floats, VectorIndex, WordIndex
from shopfit.recipe.tasks import TASKS
from shopfit.tasks import Pool
from shopfit.tasks.answers import as_text

Text = Callable[[Example], str]
"""An example -> what its prompt shows of it, histories as titles."""
Answer = Callable[[Sequence[Example], Sequence[Pool]], Sequence[Any]]

_STRENGTHS = [0.1, 1.0, 10.0, 100.0]  # inverse regularisation; unit vectors need little
_DEFAULT_STRENGTH = 10.0
_FOLDS = 4


def fit_baseline(
    name: str,
    train: Sequence[Example],
    *,
    text: Text,
    query_text: Text,
    catalog: Catalog | None = None,
    history: Catalog | None = None,
    embed: Embed,
    labels: Sequence[str] = (),
    seed: int = 0,
) -> System:
    """Fit one of the recipe's baselines.

    Args:
        name: bm25, minilm-cosine or minilm-logreg.
        train: the training examples, at least one.
        text: an example's text.
        query_text: the same without items.
        catalog: rank: the items; None for plain titles.
        history: rank: the items of histories, where they are others.
        embed: turns texts into vectors.
        labels: choose: every label, in the order of predictions.
        seed: of the cross-validation's folds.

    Raises:
        RecipeError: if there is no baseline of that name.
    """
    match name:
        case "bm25":
            return System(name, "baseline", "rank", _bm25(text, catalog), catalog=catalog, fitted=False)
        case "minilm-cosine" if any(example.output is not None for example in train):
            return System(name, "baseline", "generate", _nearest(train, text, embed))
        case "minilm-cosine":
            answer = _cosine(query_text, embed, catalog, history if history is not None else catalog)
            return System(name, "baseline", "rank", answer, catalog=catalog, fitted=False)
        case "minilm-logreg":
            return System(name, "baseline", "choose", _logreg(train, text, embed, labels, seed), tuple(labels))
    allowed = dict.fromkeys(baseline for spec in TASKS.values() for baseline in spec.baselines)
    raise RecipeError(f"there is no baseline {name!r}", next_step=f"use one of {', '.join(allowed)}")


def _bm25(text: Text, catalog: Catalog | None) -> Answer:
    """BM25 of the example's text over the items' texts. It needs no fitting."""

    def answer(rows: Sequence[Example], pools: Sequence[Pool]) -> list[Floats]:
        items = _all_items(catalog, pools)
        place = {item: number for number, item in enumerate(items)}
        index = WordIndex([_item_text(item, catalog) for item in items])
        scores = [index.scores(text(row)) for row in rows]
        return [row[[place[item] for item in pool]] for row, pool in zip(scores, pools, strict=True)]

    return answer


def _cosine(query_text: Text, embed: Embed, catalog: Catalog | None, history: Catalog | None) -> Answer:
    """An item's cosine with the words of the example; where it has none, its largest with any item of its history."""

    def answer(rows: Sequence[Example], pools: Sequence[Pool]) -> list[Floats]:
        items = _all_items(catalog, pools)
        place = {item: number for number, item in enumerate(items)}
        embed([query_text(row) for row in rows])  # all at once is faster
        index = VectorIndex([_item_text(item, catalog) for item in items], embed)
        answers = []
        for row, pool in zip(rows, pools, strict=True):
            titles = [_item_text(item, history) for item in seen(row.fields) if history is None or item in history]
            answers.append(index.scores(query_text(row), titles)[[place[item] for item in pool]])
        return answers

    return answer


def _nearest(train: Sequence[Example], text: Text, embed: Embed) -> Answer:
    """The answer to the training example whose text is nearest."""
    vectors = embed([text(example) for example in train])

    def answer(rows: Sequence[Example], _: Sequence[Pool]) -> list[str]:
        nearest = (embed([text(row) for row in rows]) @ vectors.T).argmax(1) if rows else []
        return [as_text(train[place].output) for place in nearest]

    return answer


def _logreg(train: Sequence[Example], text: Text, embed: Embed, labels: Sequence[str], seed: int) -> Answer:
    """Logistic regression over the vectors, labels balanced; its strength by cross-validation where rows suffice."""
    gold = np.array([labels.index(str(example.label)) for example in train])
    present, counts = np.unique(gold, return_counts=True)
    if len(present) < 2:
        certain = np.eye(len(labels))[present[0]]
        return lambda rows, _: [certain] * len(rows)
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    def vectors(rows: Sequence[Example]) -> Floats:
        return embed([text(row) for row in rows]).astype(np.float64)  # in float32 probabilities miss 1 by too much

    model = LogisticRegression(C=_DEFAULT_STRENGTH, class_weight="balanced", max_iter=1000)
    if counts.min() >= _FOLDS:
        folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
        model = GridSearchCV(model, {"C": _STRENGTHS}, scoring="neg_log_loss", cv=folds)
    model.fit(vectors(train), gold)

    def answer(rows: Sequence[Example], _: Sequence[Pool]) -> list[Floats]:
        probabilities = np.zeros((len(rows), len(labels)))
        if rows:
            probabilities[:, model.classes_] = model.predict_proba(vectors(rows))
        return list(probabilities)

    return answer


def _all_items(catalog: Catalog | None, pools: Sequence[Pool]) -> list[str]:
    return list(dict.fromkeys([*(catalog or ()), *(item for pool in pools for item in pool)]))


def _item_text(item: str, catalog: Catalog | None) -> str:
    return catalog[item].text if catalog is not None and item in catalog else item
