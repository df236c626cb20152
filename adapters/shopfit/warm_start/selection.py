"""Which weights a merchant's adapter starts from: the candidates, and the one that its own examples favour.

A shop's examples are too few to learn a task from scratch, but enough to tell a good start from a bad one. Each
candidate is trained on a part of the examples and evaluated on the rest; the lowest loss wins, and of about equal ones
the simplest. A start learned from other merchants' many examples is given up only on evidence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from shopfit.adapter.adapted_model import Bare, answer_sums
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.stack import Stack
from shopfit.base.load import Base
from shopfit.errors import Diverged
from shopfit.evaluation.evidence import NATS
from shopfit.merchant.splits import VALID_FROM
from shopfit.methods.low_rank import weighted_sum
from shopfit.methods.method import Factors
from shopfit.recipe.schema import Recipe
from shopfit.tune.folds import (
    Answered,
    HeldOut,
    answered,
    calibrated_loss,
    folds,
    held_out_of,
    in_batches,
    loss_at,
    scored,
    trained,
)
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.trainer import Trainer, Tuned
from shopfit.tune.training_callback import Heartbeat
from shopfit.tune.training_dataset import Batch, TrainingSet

MOST_DONORS = 8
_NEAREST = 3  # donors whose mean is a candidate
_TIE = 0.01  # losses this near, relatively, are the same
_LUCK = 1.0  # nats that one fitted number, the temperature, may gain by chance (Akaike, 1974)
_FLAT = 1e9  # a temperature at which all answers are equally likely
_SUPPORT = 32  # examples that donors are weighed on
_SPARSITY = 0.05  # LoraHub's price of a weight
_EVALUATIONS = 60


@dataclass(frozen=True, slots=True)
class Donor:
    """Another merchant's finished adapter, whose merchant shares.

    Args:
        name: its reference.
        factors: plain LoRA.
    """

    name: str
    factors: Factors


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible start.

    Args:
        name: for the report.
        make: from the examples that it may look at.
        kept: whether it is taken as it is, without training.
        from_others: whether other merchants' examples went into it.
    """

    name: str
    make: Callable[[TrainingSet], Start]
    kept: bool = False
    from_others: bool = True

    @classmethod
    def of(cls, start: Start, *, from_others: bool) -> "Candidate":
        """One that is the same whatever the examples are."""
        return cls(start.title, lambda _: start, kept=start.kept, from_others=from_others)


@dataclass(frozen=True, slots=True)
class Choice:
    """The start that was chosen.

    Args:
        start: its weights.
        losses: cross-validated, by candidate, the simplest first; empty if there was nothing to compare.
        why: in a few words.
        held_out: of several folds, what was answered from this start, if it was trained in full.
    """

    start: Start
    losses: dict[str, float] = field(default_factory=dict)
    why: str = "no other start to compare"
    held_out: Sequence[HeldOut] = ()


def kept_and_trained(start: Start) -> list[Start]:
    """A start in both ways, the simpler one first: as it is, without training, and to train on."""
    return [replace(start, kept=True), start]


def candidates(
    base: Base, recipe: Recipe, own: Sequence[Start], starter: Sequence[Start], donors: Sequence[Donor]
) -> list[Candidate]:
    """Every start there is, the simplest first.

    Args:
        base: bare.
        recipe: says the task.
        own: what there is without any other merchant, such as scratch; the simplest first.
        starter: the house's, to keep as it is, to train on, or both; none if none fits recipe, base and method.
        donors: nearest first; the first `MOST_DONORS` count.
    """
    found = [Candidate.of(start, from_others=False) for start in own]
    found += [Candidate.of(start, from_others=True) for start in starter]
    donors = donors[:MOST_DONORS]
    if len(donors) > 1:
        merger = LoraMerger(base, recipe, donors)
        found.append(Candidate(f"mean of the nearest of {len(donors)} donors", merger.mean))
        found.append(Candidate(f"weights over {len(donors)} donors", merger.weighted))
    elif donors:
        one = donors[0]
        found.append(Candidate.of(Start(one.name, factors=one.factors), from_others=True))
    return found


def choose_start(
    trainer: Trainer,
    recipe: Recipe,
    training_set: TrainingSet,
    among: Sequence[Candidate],
    *,
    on_loss: Callable[[str, float], None] = lambda _name, _loss: None,
    reporter: Reporter = silent,
) -> Choice:
    """Let candidates compete on the merchant's own examples.

    Args:
        trainer: on a bare base.
        recipe: how the adapter will be trained.
        training_set: the merchant's.
        among: candidates, the simplest first.
        on_loss: told each candidate's loss.
        reporter: told how far a long training is.
    """
    if len(among) == 1:
        return Choice(among[0].make(training_set))
    parts = folds(recipe, training_set)
    if not parts:
        best = next((one for one in among if one.from_others), among[-1])
        return Choice(best.make(training_set), why="too few examples to compare starts")
    losses: dict[str, float] = {}
    found: dict[str, list[HeldOut]] = {}
    answers: dict[str, list[Answered]] = {}
    diverged: Diverged | None = None
    compared = [_Compared.of(trainer, recipe, parts, candidate, reporter) for candidate in among]
    for candidate, queued in zip(among, compared, strict=True):
        try:
            answers[candidate.name], found[candidate.name] = queued.held_out(trainer)
        except Diverged as error:
            diverged = error
            on_loss(candidate.name, math.inf)
            continue
        losses[candidate.name] = calibrated_loss(answers[candidate.name], recipe)
        on_loss(candidate.name, losses[candidate.name])
    if not losses:
        assert diverged is not None
        raise diverged
    among = [one for one in among if one.name in losses]
    name = _nearest_to_lowest(losses)
    why = f"lowest loss in {len(parts)}-fold cross-validation" if len(parts) > 1 else "lowest loss on held-out examples"
    shared = _from_others(among, losses, answers, recipe)
    if shared is not None and shared != name:
        name, why = shared, "too little speaks against it"
    winner = next(one for one in among if one.name == name)
    return Choice(winner.make(training_set), losses, why, found[name])


def _nearest_to_lowest(losses: Mapping[str, float]) -> str:
    """The simplest of those that have the lowest loss, or nearly so."""
    lowest = min(losses.values())
    return next(name for name, loss in losses.items() if loss <= lowest * (1 + _TIE))


def _from_others(
    among: Sequence[Candidate], losses: Mapping[str, float], answers: Mapping[str, list[Answered]], recipe: Recipe
) -> str | None:
    """A start learned from other merchants, if it beats guessing and the examples are no evidence against it.

    Tried first is one kept untrained, which these few examples cannot have overfitted; then the best of them.
    """
    if recipe.spec.written:  # there is no loss of guessing a text
        return None
    lowest = min(losses.values())
    from_others = [one for one in among if one.from_others]
    if not from_others:
        return None
    best = _nearest_to_lowest({one.name: losses[one.name] for one in from_others})
    for name in [*(one.name for one in from_others if one.kept), best]:
        count = sum(len(batch.weights) for _, batch in answers[name])
        guessing = loss_at(answers[name], recipe, _FLAT)
        against = count * (losses[name] - lowest)
        if count * (guessing - losses[name]) > _LUCK and against < NATS:
            return name
    return None


@dataclass(frozen=True, slots=True)
class _Compared:
    """A candidate's trainings, queued: on each part, with the recipe that it is trained by there.

    From 100 training examples on, one epoch is enough to compare starts, but its answers calibrate no adapter.
    """

    parts: Sequence[tuple[TrainingSet, Recipe, AbstractContextManager[Tuned]]]

    @classmethod
    def of(
        cls, trainer: Trainer, recipe: Recipe, parts: Sequence[TrainingSet], candidate: Candidate, reporter: Reporter
    ) -> "_Compared":
        """Queue a candidate's trainings."""
        queued = []
        for number, part in enumerate(parts, start=1):
            callback = Heartbeat(reporter, "start", f"{candidate.name}, part {number} of {len(parts)}")
            epochs = recipe.tune.epochs if len(part.train) < VALID_FROM else 1
            short = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"epochs": epochs})})
            start = candidate.make(replace(part, valid=[]))
            queued.append((part, short, trained(trainer, short, part, start, callback)))
        return cls(queued)

    def held_out(self, trainer: Trainer) -> tuple[list[Answered], list[HeldOut]]:
        """What the candidate answers to the held-out examples: for its loss, and of folds also as predictions."""
        answers: list[Answered] = []
        predictions: list[HeldOut] = []
        in_full = len(self.parts) > 1 and all(len(part.train) < VALID_FROM for part, _, _ in self.parts)
        for part, short, training in self.parts:
            with training as tuned:
                mine = scored(trainer.base, short, part, tuned)
                answers += mine
                if in_full:
                    predictions.append(held_out_of(trainer, short, part, tuned, mine))
        return answers, predictions


class LoraMerger:
    """Merges donors' adapters without training (LoraHub, arXiv:2307.13269).

    Args:
        base: bare.
        recipe: says the task.
        donors: at least two.
    """

    def __init__(self, base: Base, recipe: Recipe, donors: Sequence[Donor]) -> None:
        self._base = base
        self._recipe = recipe
        self._donors = donors
        self._stack: Stack | None = None

    def mean(self, training_set: TrainingSet) -> Start:
        """The mean of the donors that do best on the examples."""
        batches = self._support(training_set)
        losses = [self._loss(donor.factors, batches) for donor in self._donors]
        nearest = [self._donors[place] for place in np.argsort(losses, kind="stable")[:_NEAREST]]
        share = 1 / len(nearest)
        name = "mean of " + ", ".join(donor.name for donor in nearest)
        return Start(name, factors=weighted_sum([donor.factors for donor in nearest], [share] * len(nearest)))

    def weighted(self, training_set: TrainingSet) -> Start:
        """Weights over all donors, found by CMA-ES (arXiv:1604.00772): few numbers, no gradients, no overfitting."""
        import cma

        batches = self._support(training_set)
        factors = [donor.factors for donor in self._donors]

        def objective(shares: Sequence[float]) -> float:
            return self._loss(weighted_sum(factors, shares), batches) + _SPARSITY * float(np.abs(shares).mean())

        first = [1 / len(factors)] * len(factors)
        options = {"maxfevals": _EVALUATIONS, "seed": self._recipe.tune.seed + 1, "verbose": -9, "bounds": [-1.5, 1.5]}
        best, _ = cma.fmin2(objective, first, 0.2, options)
        name = "weights over " + ", ".join(
            f"{donor.name} {share:+.2f}" for donor, share in zip(self._donors, best, strict=True)
        )
        return Start(name, factors=weighted_sum(factors, [float(share) for share in best]))

    def _support(self, training_set: TrainingSet) -> list[Batch]:
        return in_batches(self._recipe, [*training_set.train, *training_set.valid][:_SUPPORT], training_set)

    def _loss(self, factors: Factors, batches: Sequence[Batch]) -> float:
        """The task's loss of the base with these weights, untrained."""
        if self._stack is None:
            ranks = [max(len(down) for down, _ in donor.factors.values()) for donor in self._donors]
            self._stack = Stack(self._base, 1, max_rank=sum(ranks))
        stack = self._stack
        stack.put(1, stack.pack(factors, "donors"))

        def answer(batch: Batch) -> Tensor:
            with stack.rows([1] * len(batch.weights)):
                return answer_sums(Bare(self._base.model), batch.questions)

        return loss_at(answered(self._base, batches, answer), self._recipe, self._recipe.tune.temperature)
