"""How much better an adapter gets with more examples, and how many are worth asking for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from pydantic import BaseModel, ConfigDict

from shopfit.evaluation.intervals import Number
from shopfit.evaluation.wording import metric_name, number
from shopfit.recipe.tasks import METRICS, Task
from shopfit.tasks import SystemKind

LEAST_GAIN = 0.01  # of the metric: less is not worth a merchant's time


class Standing(BaseModel):
    """What one system reaches with a number of examples.

    Args:
        name: of the system.
        kind: "base", "adapter", "prior" or "baseline".
        values: of the metric, one a seed; a single one where there is nothing to draw.
        mean: of the values; nan if one is undefined.
        spread: their standard deviation; 0 for a single one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    kind: SystemKind
    values: list[Number]
    mean: Number
    spread: Number

    @classmethod
    def of(cls, name: str, kind: SystemKind, values: Sequence[float]) -> "Standing":
        """From the values alone."""
        spread = 0.0 if len(values) == 1 else math.nan if any(map(math.isnan, values)) else stdev(values)
        return cls(name=name, kind=kind, values=list(values), mean=fmean(values), spread=spread)


class Point(BaseModel):
    """What every system reaches with one number of examples.

    Args:
        shots: examples to learn from; 0 for what does without.
        systems: base, adapter, priors, baselines; a system that must be fitted is absent at 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shots: int
    systems: tuple[Standing, ...]

    def of(self, name: str) -> Standing | None:
        """The system of that name, if it is there."""
        return next((one for one in self.systems if one.name == name), None)


class Advice(BaseModel):
    """How many examples to ask a merchant for.

    Args:
        shots: so many.
        rising: whether the curve still rises at the largest number measured.
        text: the same in sentences.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shots: int
    rising: bool
    text: str


class LearningCurve(BaseModel):
    """A recipe's metric against the number of examples.

    Args:
        merchant: whose examples.
        recipe: its name.
        task: of the recipe.
        metric: the recipe's metric.
        k: cut-off of the @k metrics.
        n_test: examples of the test set, the same for every point.
        available: examples that the merchant has to learn from.
        seeds: of the draws, and of training.
        without: what stands for the adapter at 0 examples: the house's starter, or `base`.
        points: by rising number of examples.
        advice: how many to ask for.
        seconds: that it took.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    merchant: str
    recipe: str
    task: Task
    metric: str
    k: int
    n_test: int
    available: int
    seeds: list[int]
    without: str
    points: tuple[Point, ...]
    advice: Advice
    seconds: float

    @property
    def names(self) -> list[tuple[str, SystemKind]]:
        """Every system of any point, in order."""
        return list(dict.fromkeys((one.name, one.kind) for point in reversed(self.points) for one in point.systems))


@dataclass(frozen=True, slots=True)
class Step:
    """The adapter at one number of examples."""

    shots: int
    mean: float
    spread: float


def enough(steps: Sequence[Step], metric: str) -> tuple[int, bool]:
    """The smallest number of examples from which no larger one is better.

    Better means by more than the spread over seeds at the larger number, and by more than 0.01. The spread at the
    smaller number does not count: results that vary on few examples are a reason to ask for more.

    Args:
        steps: by rising number of examples, at least one; undefined means are passed over.
        metric: says whether higher or lower is better.

    Returns:
        that number, and whether the curve still rises at its end: whether the last number is better than every other.
    """
    known = [step for step in steps if not math.isnan(step.mean)] or list(steps[:1])
    for place, step in enumerate(known):
        larger = known[place + 1 :]
        if not any(METRICS[metric].gain(other.mean, step.mean) > max(other.spread, LEAST_GAIN) for other in larger):
            return step.shots, not larger and len(known) > 1
    raise AssertionError("the last number has no larger one")


def advise(points: Sequence[Point], metric: str, k: int, *, available: int) -> Advice:
    """How many examples to ask for, by the rule of `enough`, and what is better still at that number.

    Args:
        points: by rising number of examples, at least one, each with an adapter.
        metric: the recipe's.
        k: cut-off of the @k metrics.
        available: examples that the merchant has already.
    """
    adapters = {point.shots: one for point in points for one in point.systems if one.kind == "adapter"}
    shots, rising = enough([Step(number, one.mean, one.spread) for number, one in adapters.items()], metric)
    largest, reached, name = max(adapters), adapters[shots], metric_name(metric, k)
    counted = f"{shots} {'example' if shots == 1 else 'examples'}"
    if math.isnan(reached.mean):
        text = f"{name} is undefined on this test set, so nothing can be said."
    elif len(points) == 1:
        text = f"{counted}: {name} {number(reached.mean)}. One number of examples says nothing about more or fewer."
    elif rising:
        all_there_are = ", all that there are" if shots == available else ""
        text = (
            f"Ask for more than {counted}{all_there_are}: {name} is {number(reached.mean)} there and still rises, "
            "so more than the largest number measured would still help."
        )
    elif shots == largest:
        text = f"Ask for {counted}: {name} is {number(reached.mean)} there."
    else:
        text = (
            f"Ask for {counted}: {name} is {number(reached.mean)} there, and no larger number up to {largest} "
            f"is better by more than its spread over seeds and {LEAST_GAIN}."
        )
    return Advice(shots=shots, rising=rising, text=text + _better(points, shots, reached, metric))


def _better(points: Sequence[Point], shots: int, reached: Standing, metric: str) -> str:
    """What the adapter does not reach, said where its number of examples is advised."""
    rivals = next(point.systems for point in points if point.shots == shots)
    ahead = [
        one for one in rivals if one.kind != "adapter" and METRICS[metric].gain(one.mean, reached.mean) > LEAST_GAIN
    ]
    if not ahead:
        return ""
    named = ", ".join(f"{one.name} ({number(one.mean)})" for one in ahead)
    return f" Mind that {named} {'is' if len(ahead) == 1 else 'are'} better there."
