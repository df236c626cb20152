"""Fit score fusion (a recipe's `blend`): logistic regression over few parts, on examples held out of training.

The blend is kept only if it beats its best single part in cross-validation; else that part answers alone.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.special import softmax

from shopfit.adapter.score_fusion import (
    ADAPTER,
    ITEM_LIKES,
    LIKE_RATE,
    ScoreFusion,
    choose_facts,
    choose_parts,
    log_shares,
    rank_facts,
    rank_parts,
)
from shopfit.evaluation.calibration import cross_fitted, temperature_helps
from shopfit.evaluation.evidence import NATS, NATS_AN_EXAMPLE
from shopfit.merchant.examples import Example
from shopfit.merchant.histories import past_items
from shopfit.merchant.search import CatalogIndex, Embed, Floats, titles_index
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, Predictions, RankPredictions
from shopfit.tune.folds import HeldOut
from shopfit.tune.training_dataset import TrainingSet

LEAST = 10  # held-out examples
_FOLDS = 5
_PENALTY = 4.0  # strength of the L2 penalty
_PRIOR_WEIGHTS = {LIKE_RATE: 1.0, ITEM_LIKES: 1.0}  # log-odds already; others may be useless

Row = tuple[dict[str, Floats], Floats]
"""Parts of one example, each (A,), and which of its A answers are right, as 0 and 1."""


def fit_fusion(
    recipe: Recipe, training_set: TrainingSet, parts: Sequence[HeldOut], embed: Embed | None
) -> tuple[ScoreFusion | None, dict[str, float]]:
    """Weights for what the adapter answered to examples that it has not seen.

    Args:
        recipe: of the adapter.
        training_set: all of the merchant's.
        parts: of it, each with the answers to its held-out examples.
        embed: turns texts into vectors; None to do without.

    Returns:
        the blend, None if the adapter alone is best or there is too little to tell; and the cross-validated loss of
        the blend and of every part that may answer by itself.
    """
    rows = [row for part, held_out in parts for row in _rows(recipe, part, held_out, embed) if _informative(row)]
    if len(rows) < LEAST:
        return None, {}
    names = [name for name in rows[0][0] if all(name in known for known, _ in rows)]
    names = [name for name in names if name == ADAPTER or any(np.ptp(known[name]) > 0 for known, _ in rows)]
    alone = _single_parts(names)
    losses = {title: _cross_validated(rows, part) for title, part in alone.items()}
    margin = max(NATS_AN_EXAMPLE, NATS / len(rows))
    best = _best(alone, losses, margin, guessing=float(np.mean([np.log((right == 0).sum() + 1) for _, right in rows])))
    losses["blend"] = _cross_validated(rows, names)
    chosen = names if losses["blend"] < losses[best] - margin else alone[best]
    if chosen == [ADAPTER]:
        return None, losses
    weights = {name: round(float(weight), 4) for name, weight in zip(chosen, _fit(rows, chosen), strict=True)}
    weights = {name: weight for name, weight in weights.items() if weight > 0} or {ADAPTER: 1.0}
    everything = [*training_set.train, *training_set.valid]
    facts = (
        choose_facts(everything, training_set.labels, _text(training_set), embed)
        if recipe.spec.labels
        else rank_facts(everything)
    )
    return ScoreFusion(weights=weights, **dict(facts)), losses


def as_served(
    recipe: Recipe, parts: Sequence[HeldOut], blend: ScoreFusion | None, embed: Embed | None
) -> list[Predictions]:
    """Held-out answers as they would be served: by the blend or at the temperature, each fitted on the others.

    Args:
        recipe: of the adapter.
        parts: as for `fit_fusion`.
        blend: that came of them; None where the adapter answers alone.
        embed: see there.
    """
    if blend is None:
        return _at_temperature([held_out for _, held_out in parts])
    by_part = [_rows(recipe, part, held_out, embed) for part, held_out in parts]
    rows, names = [row for some in by_part for row in some], list(blend.weights)
    logits: list[Floats] = [np.zeros(0)] * len(rows)
    for out, weights in _fitted_without(rows, names):
        for place in out:
            logits[place] = _logits(weights, rows[place], names)
    served, place = [], 0
    for (_, held_out), some in zip(parts, by_part, strict=True):
        served.append(_answered(held_out, logits[place : place + len(some)]))
        place += len(some)
    return served


def _at_temperature(parts: Sequence[Predictions]) -> list[Predictions]:
    choices = [part for part in parts if isinstance(part, ChoosePredictions)]
    if not choices or not temperature_helps(whole := ChoosePredictions.join(choices)):
        return list(parts)
    ends = np.cumsum([len(part.gold) for part in choices])[:-1]
    shares = np.split(cross_fitted(whole).probabilities, ends)
    return [replace(part, probabilities=share) for part, share in zip(choices, shares, strict=True)]


def _answered(held_out: Predictions, logits: Sequence[Floats]) -> Predictions:
    """The same rows with other scores."""
    if isinstance(held_out, ChoosePredictions):
        shape = held_out.probabilities.shape
        return replace(held_out, probabilities=softmax(np.array(logits).reshape(shape), axis=1))
    assert isinstance(held_out, RankPredictions)
    return replace(held_out, scores=tuple(logits))


def _single_parts(names: Sequence[str]) -> dict[str, list[str]]:
    """Parts that may answer by themselves, by title.

    The shopper's like-rate and the item's likes count as one part: the two biases that recommenders start from (Koren,
    Bell and Volinsky, 2009) are log-odds, which add up without fitted weights.
    """
    biases = [name for name in names if name in _PRIOR_WEIGHTS]
    return {name: [name] for name in names if name not in biases} | ({" and ".join(biases): biases} if biases else {})


def _best(alone: Mapping[str, Sequence[str]], losses: Mapping[str, float], margin: float, guessing: float) -> str:
    """Title of the part that answers alone unless the blend is better.

    What was fitted more must be better: biases are not fitted at all; the adapter must beat them by one margin, any
    other part, whose weight was fitted to the held-out answers, by two. Biases count as no worse than guessing, which a
    smaller weight would make them.
    """

    def objective(title: str) -> float:
        if set(alone[title]) <= _PRIOR_WEIGHTS.keys():
            return min(losses[title], guessing)
        return losses[title] + (1 if title == ADAPTER else 2) * margin

    return min(alone, key=objective)


def _rows(recipe: Recipe, training_set: TrainingSet, held_out: Predictions, embed: Embed | None) -> list[Row]:
    """Parts of the held-out examples, from facts of the training examples only."""
    rows: list[Row] = []
    if isinstance(held_out, ChoosePredictions):
        facts = choose_facts(training_set.train, training_set.labels, _text(training_set), embed)
        if embed is not None:
            embed([_text(training_set)(example) for example in training_set.valid])  # all at once is faster
        for example, probabilities, gold in zip(training_set.valid, held_out.probabilities, held_out.gold, strict=True):
            others = choose_parts(facts, training_set.labels, example.fields, _text(training_set)(example), embed)
            right = np.zeros(len(probabilities))
            right[gold] = 1
            rows.append(({ADAPTER: log_shares(probabilities), **others}, right))
        return rows
    if not isinstance(held_out, RankPredictions):
        return []
    prompter, facts = training_set.prompter, rank_facts(training_set.train)
    whole = None if prompter.catalog is None else CatalogIndex(prompter.catalog, embed)
    for example, pool, scores, relevant in zip(
        training_set.valid, held_out.candidates, held_out.scores, held_out.relevant, strict=True
    ):
        index = whole or titles_index(pool, embed)
        history = past_items(example.fields, prompter.history)
        others = rank_parts(facts, index.scores(prompter.query_text(example.fields), history, pool), pool)
        right = np.array([item in relevant for item in pool], np.float64)
        rows.append(({ADAPTER: scores / recipe.tune.temperature, **others}, right))
    return rows


def _informative(row: Row) -> bool:
    """Whether some of its answers are right and others are not."""
    return bool(0 < row[1].sum() < len(row[1]))


def _text(training_set: TrainingSet) -> Callable[[Example], str]:
    return lambda example: training_set.prompter.text(example.fields)


def _cross_validated(rows: Sequence[Row], names: Sequence[str]) -> float:
    """Mean loss on rows that the weights have not seen."""
    losses = [_loss(weights, rows[place], names) for out, weights in _fitted_without(rows, names) for place in out]
    return float(np.mean(losses))


def _fitted_without(rows: Sequence[Row], names: Sequence[str]) -> Iterator[tuple[list[int], Floats]]:
    """Places of a fifth of the rows at a time, and weights from the others that tell something."""
    order = random.Random(0).sample(range(len(rows)), len(rows))
    for number in range(_FOLDS):
        out = set(order[number::_FOLDS])
        others = [row for place, row in enumerate(rows) if place not in out and _informative(row)]
        yield sorted(out), _fit(others, names)


def _fit(rows: Sequence[Row], names: Sequence[str]) -> Floats:
    """Weights of at least 0 of the least loss, with an L2 penalty on their distance from `_PRIOR_WEIGHTS`."""
    prior = np.array([_PRIOR_WEIGHTS.get(name, 0.0) for name in names])

    def objective(weights: Floats) -> float:
        away = weights - prior
        return sum(_loss(weights, row, names) for row in rows) + 0.5 * _PENALTY * float(away @ away)

    found = minimize(objective, np.full(len(names), 0.5), bounds=[(0.0, None)] * len(names), method="L-BFGS-B")
    return np.asarray(found.x, np.float64)


def _loss(weights: Floats, row: Row, names: Sequence[str]) -> float:
    """Mean over the right answers of each one's cross-entropy against the wrong ones."""
    _, right = row
    logits = _logits(weights, row, names)
    wrong = logits[right == 0]
    ceiling = logits.max()
    mass = np.log(np.exp(wrong - ceiling).sum() + np.exp(logits[right == 1] - ceiling)) + ceiling
    return float((mass - logits[right == 1]).mean())


def _logits(weights: Floats, row: Row, names: Sequence[str]) -> Floats:
    parts, _ = row
    total: Floats = np.sum([weight * parts[name] for weight, name in zip(weights, names, strict=True)], axis=0)
    return total
