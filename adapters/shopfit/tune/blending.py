"""Learn a blend's weights: logistic regression over few parts, on examples that the adapter was not trained on.

The blend is kept only if it beats its best single part in cross-validation; else that part answers alone.
"""

import random
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from shopfit.engine.blending import (
    ADAPTER,
    Blend,
    choose_facts,
    choose_parts,
    log_shares,
    past_texts,
    rank_parts,
)
from shopfit.evaluation.predictions import ChoosePredictions, Predictions, RankPredictions
from shopfit.merchant.counts import popularity
from shopfit.merchant.examples import Example
from shopfit.merchant.search import CatalogIndex, Embed, Floats
from shopfit.recipe.schema import Recipe
from shopfit.tune.lessons import Material

LEAST = 10  # held-out examples
_FOLDS = 5
_DOUBT = 1.0  # strength of the pull towards no weight at all
_GAIN = 0.01  # nats an example that a blend must be better by than its best part

Row = tuple[dict[str, Floats], Floats]
"""Parts of one example, each (A,), and which of its A answers are right, as 0 and 1."""


def fit_blend(
    recipe: Recipe, material: Material, held_out: Predictions, embed: Embed | None
) -> tuple[Blend | None, dict[str, float]]:
    """Weights for what the adapter answered to examples that it has not seen.

    Args:
        recipe: of the adapter.
        material: the merchant's; `held_out` are the answers to its `valid`.
        held_out: as predicted while training.
        embed: turns texts into vectors; None to do without.

    Returns:
        the blend, None if the adapter alone is best or there is too little to tell; and the cross-validated loss of
        the blend and of every part.
    """
    if len(material.valid) < LEAST:
        return None, {}
    rows = _rows(recipe, material, held_out, embed)
    if not rows:
        return None, {}
    names = list(rows[0][0])
    losses = {name: _cross_validated(rows, [name]) for name in names}
    losses["blend"] = _cross_validated(rows, names)
    best = min(names, key=losses.__getitem__)
    chosen = names if losses["blend"] < losses[best] - _GAIN else [best]
    if chosen == [ADAPTER]:
        return None, losses
    weights = {name: round(float(weight), 4) for name, weight in zip(chosen, _fit(rows, chosen), strict=True)}
    weights = {name: weight for name, weight in weights.items() if weight > 0} or {ADAPTER: 1.0}
    everything = [*material.train, *material.valid]
    if recipe.task == "rank":
        return Blend(weights=weights, popularity=popularity(everything)), losses
    shares, centroids = choose_facts(everything, material.labels, _text(material), embed)
    return Blend(weights=weights, shares=shares, centroids=centroids), losses


def _rows(recipe: Recipe, material: Material, held_out: Predictions, embed: Embed | None) -> list[Row]:
    """Parts of the held-out examples, from facts of the training examples only."""
    rows: list[Row] = []
    if isinstance(held_out, ChoosePredictions):
        shares, centroids = choose_facts(material.train, material.labels, _text(material), embed)
        for example, probabilities, gold in zip(material.valid, held_out.probabilities, held_out.gold, strict=True):
            others = choose_parts(shares, centroids, material.labels, example.fields, _text(material)(example), embed)
            right = np.zeros(len(probabilities))
            right[gold] = 1
            rows.append(({ADAPTER: log_shares(probabilities), **others}, right))
        return rows if all(row[0].keys() == rows[0][0].keys() for row in rows) else []
    if not isinstance(held_out, RankPredictions) or material.prompter.catalog is None:
        return []
    index, popular = CatalogIndex(material.prompter.catalog, embed), popularity(material.train)
    for example, pool, scores, relevant in zip(
        material.valid, held_out.candidates, held_out.scores, held_out.relevant, strict=True
    ):
        past = past_texts(example.fields, material.prompter.history)
        others = rank_parts(popular, index.scores(material.prompter.wish(example.fields), past, pool), pool)
        right = np.array([item in relevant for item in pool], np.float64)
        if 0 < right.sum() < len(right):
            rows.append(({ADAPTER: scores / recipe.tune.temperature, **others}, right))
    return rows


def _text(material: Material) -> Callable[[Example], str]:
    return lambda example: material.prompter.text(example.fields)


def _cross_validated(rows: Sequence[Row], names: Sequence[str]) -> float:
    """Mean loss on rows that the weights have not seen."""
    order = random.Random(0).sample(range(len(rows)), len(rows))
    losses = []
    for number in range(_FOLDS):
        out = set(order[number::_FOLDS])
        weights = _fit([row for place, row in enumerate(rows) if place not in out], names)
        losses += [_loss(weights, rows[place], names) for place in sorted(out)]
    return float(np.mean(losses))


def _fit(rows: Sequence[Row], names: Sequence[str]) -> Floats:
    """Weights of at least 0 that make the right answers likeliest, drawn towards 0."""

    def price(weights: Floats) -> float:
        return sum(_loss(weights, row, names) for row in rows) + 0.5 * _DOUBT * float(weights @ weights)

    found = minimize(price, np.full(len(names), 0.5), bounds=[(0.0, None)] * len(names), method="L-BFGS-B")
    return np.asarray(found.x, np.float64)


def _loss(weights: Floats, row: Row, names: Sequence[str]) -> float:
    """Mean over the right answers of each one's surprise against the wrong ones."""
    parts, right = row
    logits = np.sum([weight * parts[name] for weight, name in zip(weights, names, strict=True)], axis=0)
    wrong = logits[right == 0]
    ceiling = logits.max()
    mass = np.log(np.exp(wrong - ceiling).sum() + np.exp(logits[right == 1] - ceiling)) + ceiling
    return float((mass - logits[right == 1]).mean())
