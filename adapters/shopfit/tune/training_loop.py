"""The loop of a training, alone or in a fleet: which rows a step reads, when it ends, and which weights are best.

Below 100 examples too few can be held out to say when to stop, so the schedule is fixed; from 100 on a part of the
training examples is held out, training stops when the recipe's metric on it no longer rises, and the best weights are
put back.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import fmean
from typing import Any

from torch import Tensor

from shopfit.adapter.trained_weights import TrainedWeights
from shopfit.base.load import Base
from shopfit.evaluation.metrics import measure
from shopfit.evaluation.report import CurvePoint
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import Predictions
from shopfit.tune.batches import LengthSortedBatches
from shopfit.tune.training_dataset import BalancedTrainingDataset

_NEAR = 0.75  # of the change from the first to the trained weights, see `interpolation_of`


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training is, between two steps.

    Args:
        epoch: that goes on, counted from 1.
        before: steps of the epochs before it.
        losses: of its own steps so far.
        curve: a point of each epoch before.
        best_epoch: whose weights are best so far; 0 before the first is over.
        best_merit: of these weights, higher is better; empty where nothing was held out.
        over: whether no step follows.
        stopped_early: whether it is over before its last epoch.
        best: those weights; None for the ones that the training ends with.
        held_out: what they answer to the held-out examples; None if they have to be asked again.
    """

    epoch: int = 1
    before: int = 0
    losses: list[float] = field(default_factory=list)
    curve: list[CurvePoint] = field(default_factory=list)
    best_epoch: int = 0
    best_merit: tuple[float, ...] = ()
    over: bool = False
    stopped_early: bool = False
    best: list[Tensor] | None = None
    held_out: list[Predictions] | None = None

    @property
    def steps(self) -> int:
        """Optimizer steps done."""
        return self.before + len(self.losses)

    def facts(self) -> dict[str, Any]:
        """All but the weights and their answers, as plain data."""
        return {
            "epoch": self.epoch,
            "before": self.before,
            "losses": list(self.losses),
            "curve": [point.model_dump() for point in self.curve],
            "best_epoch": self.best_epoch,
            "best_merit": list(self.best_merit),
            "over": self.over,
            "stopped_early": self.stopped_early,
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any], best: list[Tensor] | None) -> "Place":
        """The place that `facts` told of.

        Args:
            facts: from a place.
            best: its `best`.
        """
        more = {
            "curve": [CurvePoint.model_validate(point) for point in facts["curve"]],
            "best_merit": tuple(facts["best_merit"]),
        }
        return cls(**{**facts, **more}, best=best)


class TrainingLoop:
    """Gives the rows of each step; whoever takes the step then says so with `took`.

    At any time between steps, `place` and the weights together are all that the rest follows from.

    Args:
        weights: that are trained, as they are before the first step.
        recipe: how.
        dataset: whose rows are read.
        share: of the way from the first weights, see `interpolation_of`.
        validate: asks the weights, as they are, each merchant's held-out examples; no answers if none are held out.
        told: of each epoch.
        stops: says whether the training is to end now: asked with False after a step, with True at an epoch's end.
    """

    def __init__(
        self,
        weights: TrainedWeights,
        recipe: Recipe,
        dataset: BalancedTrainingDataset,
        share: float,
        validate: Callable[[], list[Predictions]],
        told: Callable[[CurvePoint], None],
        stops: Callable[[bool], bool] = lambda _: False,
    ) -> None:
        tune = recipe.tune
        self.place = Place()
        self._weights, self._recipe, self._dataset = weights, recipe, dataset
        self._share, self._validate, self._told, self._stops = share, validate, told, stops
        self._origin = weights.state()
        self._sampler = LengthSortedBatches(len(dataset), tune.rows_a_step, dataset.length, tune.seed)

    def __iter__(self) -> Iterator[list[int]]:
        while not self.place.over:
            self._dataset.epoch = self._sampler.epoch = self.place.epoch
            for indices in islice(self._sampler, len(self.place.losses), None):
                if self.place.steps == self._recipe.tune.steps or (self.place.losses and self._stops(False)):
                    break
                yield indices
            self._end_epoch()

    def took(self, loss: float) -> None:
        """A step was taken, of this loss."""
        self.place.losses.append(loss)

    def _end_epoch(self) -> None:
        place, tune = self.place, self._recipe.tune
        last = place.epoch == tune.epochs or place.steps == tune.steps
        with self._weights.interpolated(self._origin, self._share):
            answers = self._validate()
            values = values_of(self._recipe, answers)
            point = CurvePoint(epoch=place.epoch, train_loss=fmean(place.losses), valid=values and values[0])
            reached = replace(
                place,
                epoch=place.epoch + 1,
                before=place.steps,
                losses=[],
                curve=[*place.curve, point],
                over=last,
            )
            if self._stops(True) and not last:
                reached = replace(reached, over=True, stopped_early=True)
            if values is None or not self._weights.settled(place.steps):
                reached = replace(reached, best_epoch=place.epoch)
            elif (merit := merit_of(self._recipe, values)) > place.best_merit:
                reached = replace(
                    reached, best_epoch=place.epoch, best_merit=merit, best=self._weights.state(), held_out=answers
                )
            elif place.epoch - place.best_epoch >= tune.patience:
                reached = replace(reached, over=True, stopped_early=place.epoch < tune.epochs)
        self.place = reached  # in one step, as a signal may come at any time
        self._told(point)

    def finish(self) -> None:
        """Put the best weights back, after the last step."""
        if self.place.best is None:
            self._weights.interpolate(self._origin, self._share)
            return
        self._weights.restore(self.place.best)
        if self.place.held_out is None:
            self.place = replace(self.place, held_out=self._validate())


def total_steps(recipe: Recipe, examples: int) -> int:
    """Optimizer steps that the recipe takes at most on so many examples, on any number of processes."""
    steps = recipe.tune.epochs * math.ceil(examples / recipe.tune.rows_a_step)
    return steps if recipe.tune.steps is None else min(steps, recipe.tune.steps)


def learning_rate(done: int, steps: int, warmup: float) -> float:
    """Share of the full rate after `done` of `steps`: a linear rise over the first `warmup` of them, then a cosine."""
    rise = max(1, round(steps * warmup))
    if done < rise:
        return (done + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (done - rise) / max(1, steps - rise)))


def values_of(recipe: Recipe, answers: Sequence[Predictions]) -> tuple[float, float] | None:
    """The recipe's metric and its tie-break, the mean over merchants; None if nothing was held out."""
    if not answers:
        return None
    names = [recipe.evaluate.metric, recipe.spec.tie_break]
    found = [measure(predictions, names, recipe.evaluate.k) for predictions in answers]
    metric, tie_break = (sum(values[name] for values in found) / len(found) for name in names)
    return metric, tie_break


def merit_of(recipe: Recipe, values: Sequence[float]) -> tuple[float, ...]:
    """The metric and its tie-break so that higher is better."""
    names = recipe.evaluate.metric, recipe.spec.tie_break
    return tuple(METRICS[name].merit(value) for name, value in zip(names, values, strict=True))


def interpolation_of(base: Base, recipe: Recipe) -> float:
    """Share of the change from the first to the trained weights that is kept (WiSE-FT).

    A pretrained encoder already ranks by similarity, and few examples cover few items: there, keeping a part is better
    than keeping all. Other tasks, and decoders, are learned from nothing and need all of it.
    """
    if recipe.tune.interpolation is not None:
        return recipe.tune.interpolation
    return _NEAR if recipe.spec.items and base.scorer.compares_texts else 1.0
