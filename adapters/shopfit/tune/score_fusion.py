"""Fit score fusion (a recipe's `blend`): a regression over few parts, on examples held out of training.

The blend is kept only if it beats its best single part in cross-validation; else that part answers alone.
"""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from shopfit.adapter.score_fusion import ADAPTER, ScoreFusion
from shopfit.evaluation.calibration import cross_fitted, temperature_helps
from shopfit.evaluation.evidence import NATS, NATS_AN_EXAMPLE
from shopfit.merchant.search import Embed
from shopfit.merchant.segments import Floats
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, Predictions, ScoredTask, scored_task_of
from shopfit.tasks.scored import FusionRow
from shopfit.tune.folds import HeldOut
from shopfit.tune.training_dataset import TrainingSet

LEAST = 10  # held-out examples
_FOLDS = 5
_PENALTY = 4.0  # strength of the L2 penalty


@dataclass(frozen=True, slots=True)
class _Regression:
    """A weighted sum of parts, fitted with the task's own loss.

    Args:
        task: whose answers they are.
        biases: parts whose weight is 1 unless examples say otherwise; other parts may be useless.
    """

    task: ScoredTask
    biases: Collection[str]

    @classmethod
    def of(cls, recipe: Recipe) -> "_Regression":
        task = scored_task_of(recipe.task)
        return cls(task, frozenset() if task.fusion is None else task.fusion.biases)

    def fit(self, rows: Sequence[FusionRow], names: Sequence[str]) -> Floats:
        """Weights of at least 0 of the least loss, with an L2 penalty on their distance from those without examples."""
        prior = np.array([float(name in self.biases) for name in names])
        stacks = _stacked(rows, names)

        def objective(weights: Floats) -> tuple[float, Floats]:
            away = weights - prior
            total, slope = self._losses(weights, stacks)
            return total + 0.5 * _PENALTY * float(away @ away), slope + _PENALTY * away

        start, bounds = np.full(len(names), 0.5), [(0.0, None)] * len(names)
        found = minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B")
        return np.asarray(found.x, np.float64)

    def cross_validated(self, rows: Sequence[FusionRow], names: Sequence[str]) -> float:
        """Mean loss on rows that the weights have not seen."""
        left_out = self.fitted_without(rows, names)
        found = [self._losses(weights, _stacked([rows[place] for place in out], names)) for out, weights in left_out]
        return sum(total for total, _ in found) / len(rows)

    def _losses(self, weights: Floats, stacks: Sequence[tuple[Floats, Floats]]) -> tuple[float, Floats]:
        """The sum of the rows' losses, and its gradient."""
        total, slope = 0.0, np.zeros(len(weights))
        for parts, right in stacks:
            losses, gradients = self.task.fusion_loss(np.einsum("p,rpa->ra", weights, parts), right)
            total, slope = total + float(losses.sum()), slope + np.einsum("ra,rpa->p", gradients, parts)
        return total, slope

    def fitted_without(self, rows: Sequence[FusionRow], names: Sequence[str]) -> Iterator[tuple[list[int], Floats]]:
        """Places of a fifth of the rows at a time, and weights from the others that tell something."""
        order = random.Random(0).sample(range(len(rows)), len(rows))
        for number in range(_FOLDS):
            out = set(order[number::_FOLDS])
            others = [row for place, row in enumerate(rows) if place not in out and self.task.tells(row)]
            yield sorted(out), self.fit(others, names)

    def alone(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Parts that may answer by themselves, by title. Biases count as one: they add up without fitted weights."""
        biases = [name for name in names if name in self.biases]
        single = {name: [name] for name in names if name not in biases}
        return single | ({" and ".join(biases): biases} if biases else {})

    def best(
        self, alone: Mapping[str, Sequence[str]], losses: Mapping[str, float], margin: float, guessing: float
    ) -> str:
        """Title of the part that answers alone unless the blend is better.

        What was fitted more must be better: biases are not fitted at all; the adapter must beat them by one margin, any
        other part, whose weight was fitted to the held-out answers, by two. Biases count as no worse than guessing,
        which a smaller weight would make them.
        """

        def objective(title: str) -> float:
            if set(alone[title]) <= set(self.biases):
                return min(losses[title], guessing)
            return losses[title] + (1 if title == ADAPTER else 2) * margin

        return min(alone, key=objective)


def _stacked(rows: Sequence[FusionRow], names: Sequence[str]) -> list[tuple[Floats, Floats]]:
    """The rows by their number of answers A: (R, P, A) of the named parts, and (R, A) of what is right."""
    alike: dict[int, list[FusionRow]] = {}
    for row in rows:
        alike.setdefault(len(row[1]), []).append(row)
    return [
        (np.array([[parts[name] for name in names] for parts, _ in some]), np.array([right for _, right in some]))
        for some in alike.values()
    ]


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
    regression, task = _Regression.of(recipe), scored_task_of(recipe.task)
    assert task.fusion is not None
    rows = [
        row for part, held_out in parts for row in task.fusion_rows(recipe, part, held_out, embed) if task.tells(row)
    ]
    if len(rows) < LEAST:
        return None, {}
    names = [name for name in rows[0][0] if all(name in known for known, _ in rows)]
    names = [name for name in names if name == ADAPTER or any(task.varies(known[name]) for known, _ in rows)]
    alone = regression.alone(names)
    losses = {title: regression.cross_validated(rows, part) for title, part in alone.items()}
    margin = max(NATS_AN_EXAMPLE, NATS / len(rows))
    guessing = float(np.mean([task.guessing(row) for row in rows]))
    best = regression.best(alone, losses, margin, guessing)
    losses["blend"] = regression.cross_validated(rows, names)
    chosen = names if losses["blend"] < losses[best] - margin else alone[best]
    if chosen == [ADAPTER]:
        return None, losses
    weights = {name: round(float(weight), 4) for name, weight in zip(chosen, regression.fit(rows, chosen), strict=True)}
    weights = {name: weight for name, weight in weights.items() if weight > 0} or {ADAPTER: 1.0}
    prompter = training_set.prompter
    everything = [*training_set.train, *training_set.valid]
    facts = task.facts(everything, training_set.labels, lambda example: prompter.text(example.fields), embed)
    return task.fusion(weights=weights, **facts), losses


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
    task = scored_task_of(recipe.task)
    by_part = [task.fusion_rows(recipe, part, held_out, embed) for part, held_out in parts]
    rows, names = [row for some in by_part for row in some], list(blend.weights)
    totals: list[Floats] = [np.zeros(0)] * len(rows)
    for out, weights in _Regression.of(recipe).fitted_without(rows, names):
        for place in out:
            totals[place] = _total(weights, rows[place], names)
    served, place = [], 0
    for (_, held_out), some in zip(parts, by_part, strict=True):
        served.append(task.fused(held_out, totals[place : place + len(some)]))
        place += len(some)
    return served


def _at_temperature(parts: Sequence[Predictions]) -> list[Predictions]:
    choices = [part for part in parts if isinstance(part, ChoosePredictions)]
    if not choices or not temperature_helps(whole := ChoosePredictions.join(choices)):
        return list(parts)
    ends = np.cumsum([len(part.gold) for part in choices])[:-1]
    shares = np.split(cross_fitted(whole).probabilities, ends)
    return [replace(part, probabilities=share) for part, share in zip(choices, shares, strict=True)]


def _total(weights: Floats, row: FusionRow, names: Sequence[str]) -> Floats:
    parts, _ = row
    total: Floats = np.sum([weight * parts[name] for weight, name in zip(weights, names, strict=True)], axis=0)
    return total
