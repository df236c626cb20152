"""Cross-validation on a merchant's own examples: what each fold trains on, what it holds out, the loss on that."""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shopfit.adapter.adapted_model import answer_sums
from shopfit.adapter.initial_weights import Start
from shopfit.base.load import Base
from shopfit.merchant.examples import Example
from shopfit.merchant.histories import with_earlier_steps
from shopfit.merchant.leaks import remove_leaks
from shopfit.merchant.sampling import units
from shopfit.merchant.splits import VALID_FROM
from shopfit.methods import METHODS, Form
from shopfit.recipe.schema import Recipe
from shopfit.tasks import ChoosePredictions, Predictions, scored_task_of, task_of
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.trainer import Trainer, Tuned, head_labels, held_out_answers, held_out_together
from shopfit.tune.training_callback import Heartbeat, TrainingCallback
from shopfit.tune.training_dataset import Batch, TrainingDataset, TrainingSet

FOLDS = 3
_BATCH = 16
_ENOUGH = 3  # examples of a label
_SHIFT = 4.0  # of a temperature's logarithm, at most

Answered = tuple[Tensor, Batch]
"""(A,) log-probability of each answer of a batch, and the batch, on the CPU."""
HeldOut = tuple[TrainingSet, Predictions]
"""A training set, and the predictions of an adapter trained on it for its `valid`."""


def folds(recipe: Recipe, training_set: TrainingSet) -> list[TrainingSet]:
    """Training sets and what each holds out: the validation set where it is large enough, else folds.

    Rows of one group, such as a shopper's, stay together: split, one would leak what another holds out.

    Pretext pairs are part of every fold's training, as of the final adapter's, except those that repeat what the fold
    holds out. Pseudo-labels each fold needs its own (`self_train` makes them): those of an adapter that was trained on
    all examples would leak their answers.

    Returns:
        none if there are fewer than 2 examples a fold.
    """
    rows = [*training_set.train, *training_set.valid]
    if len(rows) >= VALID_FROM and training_set.valid:
        return [training_set]
    parts = _split(random.Random(f"{recipe.tune.seed}/folds").sample(rows, len(rows)))
    if min(map(len, parts)) < 2:
        return []
    return [_holding_out(recipe, training_set, parts, part) for part in parts]


def _holding_out(
    recipe: Recipe, training_set: TrainingSet, parts: Sequence[list[Example]], held: list[Example]
) -> TrainingSet:
    train = [row for part in parts if part is not held for row in part]
    text, alike = training_set.prompter.text, recipe.data.near_duplicate
    beside, _ = remove_leaks(training_set.beside, held, lambda example: text(example.fields), alike)
    return replace(training_set, train=train, valid=held, beside=beside)


def _split(rows: Sequence[Example]) -> list[list[Example]]:
    """Rows in equal parts of whole groups, with labels as evenly spread as that allows."""
    parts: list[list[Example]] = [[] for _ in range(FOLDS)]
    for unit in sorted(units(rows), key=lambda unit: (-len(unit), str(unit[0].label))):
        min(parts, key=len).extend(unit)
    return parts


def trained(
    trainer: Trainer, recipe: Recipe, part: TrainingSet, start: Start, callback: TrainingCallback | None = None
) -> AbstractContextManager[Tuned]:
    """A queued training on a part's training examples alone, to be evaluated on what the part holds out.

    Args:
        trainer: of the run.
        recipe: how to train.
        part: from `folds`.
        start: weights to start from.
        callback: sees every training step.
    """
    return trainer.queue(replace(part, valid=[]), without_trackers(recipe), start, callback)


def without_trackers(recipe: Recipe) -> Recipe:
    """The recipe without trackers, for trainings other than the run's own."""
    return recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"trackers": []})})


def scored(base: Base, recipe: Recipe, part: TrainingSet, tuned: Tuned) -> list[Answered]:
    """The scores of a part's held-out examples, from which losses are computed."""
    batches = in_batches(recipe, part.valid, part, head_labels(base, recipe, [part]))
    return answered(base, batches, lambda batch: answer_sums(tuned.adapter, batch.questions))


def held_out_of(
    trainer: Trainer, recipe: Recipe, part: TrainingSet, tuned: Tuned, answers: Sequence[Answered] = ()
) -> HeldOut:
    """What an adapter trained on a part answers to what it holds out, and to the earlier steps of those histories.

    Rows of labels that the part does not train on are left out: the adapter that is served was trained on those labels,
    so this one's answers say nothing about it.

    Args:
        trainer: of the run.
        recipe: how it was trained.
        part: whose held-out examples they are.
        tuned: the adapter.
        answers: what it scored for its loss, if it was asked that: where all questions have the same answers, they are
            not asked twice.
    """
    asked = _asked(recipe, part)
    if answers and recipe.spec.closed:
        said = list(compress(_raw(recipe, part, answers), _fair(recipe, part)))
        rows = asked.valid
        return asked, task_of(recipe.task).collect(part.labels, rows, [()] * len(rows), said, part.prompter.catalog)
    return asked, held_out_answers(tuned.adapter, trainer.base, recipe, asked, trainer.accelerator)


def _fair(recipe: Recipe, part: TrainingSet) -> list[bool]:
    """Which held-out rows of a part say something about the adapter that is served."""
    taught = {row.label for row in part.train}
    return [not recipe.spec.single_label or row.label in taught for row in part.valid]


def _asked(recipe: Recipe, part: TrainingSet) -> TrainingSet:
    """The part with these rows held out, and the earlier steps of their histories."""
    rows = list(compress(part.valid, _fair(recipe, part)))
    return replace(part, valid=with_earlier_steps(recipe, rows)).under(recipe)


def _raw(recipe: Recipe, part: TrainingSet, answers: Sequence[Answered]) -> list[Any]:
    """The raw answer to each held-out example, from the scores of all answers."""
    task, rows = scored_task_of(recipe.task), []
    for sums, batch in answers:
        scores = (sums / batch.questions.lengths).double().numpy()
        rows += np.split(scores, np.cumsum(batch.questions.counts)[:-1])
    return [task.raw(recipe, part.labels, row) for row in rows]


def with_enough_examples(part: TrainingSet, held_out: Predictions) -> Predictions:
    """A fold's answers to rows whose label has at least 3 training examples there.

    A fold's adapter has a third fewer examples than the one that is served. For a rare label that makes it so much
    worse that its confidence says nothing about the served adapter's.
    """
    if not isinstance(held_out, ChoosePredictions):
        return held_out
    counts = Counter(row.label for row in part.train)
    kept = [place for place, row in enumerate(part.valid) if counts[row.label] >= _ENOUGH]
    return replace(held_out, probabilities=held_out.probabilities[kept], gold=held_out.gold[kept])


def predictions_of(
    trainer: Trainer, recipe: Recipe, parts: Sequence[TrainingSet], start: Start, reporter: Reporter = silent
) -> Callable[[], list[HeldOut]]:
    """Queue a training on each of the parts.

    Returns:
        what gives the answers of the trained adapters to what was held out. It raises ShopfitError if a training
        diverged.
    """
    said = [f"fold {number} of {len(parts)}" for number in range(1, len(parts) + 1)]
    queued = [
        trained(trainer, recipe, part, start, Heartbeat(reporter, "folds", which))
        for part, which in zip(parts, said, strict=True)
    ]

    def answers() -> list[HeldOut]:
        if parts and _same_in_each(trainer.base, recipe, parts, start):
            with queued[0] as tuned:
                asked = [_asked(recipe, part) for part in parts]
                together = held_out_together(tuned.adapter, trainer.base, recipe, asked, trainer.accelerator)
            return list(zip(asked, together, strict=True))
        found = []
        for part, training in zip(parts, queued, strict=True):
            with training as tuned:
                tuned.adapter.check()
                found.append(held_out_of(trainer, recipe, part, tuned))
        return found

    return answers


def _same_in_each(base: Base, recipe: Recipe, parts: Sequence[TrainingSet], start: Start) -> bool:
    """Whether the adapter depends on no part's examples: not a head's prototypes, nor a fresh prefix, which begins with
    one of them.
    """
    fresh = start.prefix is None and METHODS[recipe.adapter.method].form is Form.PREFIX
    return start.kept and not fresh and not head_labels(base, recipe, parts)


def answered(base: Base, batches: Sequence[Batch], answer: Callable[[Batch], Tensor]) -> list[Answered]:
    """Answer batches.

    Args:
        base: on whose device they are answered.
        batches: from `in_batches`.
        answer: gives the scores of a batch on the base's device.
    """
    with torch.inference_mode():
        return [(answer(batch.to(base.device)).cpu(), batch) for batch in batches]


def loss_at(answers: Sequence[Answered], recipe: Recipe, temperature: float) -> float:
    """The task's loss an example, if scores are divided by a temperature; of `generate` it is the same at any."""
    task = task_of(recipe.task)
    total = sum(float(task.loss(sums, batch, temperature)) * len(batch.weights) for sums, batch in answers)
    return total / sum(len(batch.weights) for _, batch in answers)


def calibrated_loss(answers: Sequence[Answered], recipe: Recipe) -> float:
    """The task's loss an example at the temperature that fits best, drawn a little towards that of training.

    It measures how well right answers are told from wrong ones, whatever the confidence, which is calibrated
    afterwards. At training's own temperature, settings that few examples made overconfident look worse than untrained
    ones.
    """
    trained = recipe.tune.temperature
    if recipe.spec.written or not math.isfinite(plain := loss_at(answers, recipe, trained)):
        return loss_at(answers, recipe, trained)
    from scipy.optimize import minimize_scalar

    count = sum(len(batch.weights) for _, batch in answers)

    def objective(shift: float) -> float:  # a prior worth one example, as in `fit_temperature`
        return count * loss_at(answers, recipe, trained * math.exp(shift)) + 0.5 * shift**2

    found = minimize_scalar(objective, bounds=(-_SHIFT, _SHIFT), method="bounded")
    return min(plain, loss_at(answers, recipe, trained * math.exp(float(found.x))))


def in_batches(
    recipe: Recipe, rows: Sequence[Example], training_set: TrainingSet, head: Sequence[str] = ()
) -> list[Batch]:
    """Examples of a merchant as batches to measure a loss on; `head` as for `TrainingDataset`."""
    dataset = TrainingDataset(rows, training_set.prompter, training_set.labels, recipe.tune, head)
    numbers = range(len(rows))
    return [
        dataset.collate([dataset[number] for number in numbers[first : first + _BATCH]])
        for first in range(0, len(rows), _BATCH)
    ]
