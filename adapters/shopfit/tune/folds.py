"""Cross-validation on a merchant's own examples: what to train on, what to hold it against, and the loss on that."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor

from shopfit.adapter.start import Start
from shopfit.adapter.voice import answer_sums
from shopfit.base.load import Base
from shopfit.evaluation.predictions import Predictions
from shopfit.merchant.examples import Example
from shopfit.recipe.schema import Recipe
from shopfit.tune.lessons import Batch, Lessons, Material
from shopfit.tune.loop import Tuned, head_labels, held_out_answers, tune
from shopfit.tune.objectives import task_loss

FOLDS, FOLDED = 3, 40  # folds; from so many examples on one split will do
_BATCH = 16


def folds(recipe: Recipe, material: Material) -> list[Material]:
    """Trainings and what to hold them against: the validation set where it is large enough, else folds.

    Returns:
        none if there are fewer than 2 examples a fold.
    """
    rows = [*material.train, *material.valid]
    if len(rows) >= FOLDED and material.valid:
        return [material]
    if len(rows) < 2 * FOLDS:
        return []
    lanes: defaultdict[str | None, list[Example]] = defaultdict(list)
    for row in random.Random(f"{recipe.tune.seed}/folds").sample(rows, len(rows)):
        lanes[row.label].append(row)
    dealt = [row for label in sorted(lanes, key=str) for row in lanes[label]]
    parts = [dealt[number::FOLDS] for number in range(FOLDS)]
    return [
        replace(material, train=[row for other in parts if other is not part for row in other], valid=part)
        for part in parts
    ]


def held_out_loss(
    base: Base, recipe: Recipe, part: Material, start: Start, accelerator: Accelerator | None = None
) -> float:
    """Train on a part's training examples without looking at the others; the task's loss on those.

    Args:
        base: bare; as it was afterwards.
        recipe: how to train.
        part: from `folds`.
        start: weights to start from.
        accelerator: from `make_accelerator`.
    """
    with _trained(base, recipe, part, start, accelerator) as tuned:
        return _loss(base, recipe, part, tuned)


def held_out(
    base: Base, recipe: Recipe, part: Material, start: Start, accelerator: Accelerator
) -> tuple[float, Predictions]:
    """The same loss, and the answers to the examples that were not trained on."""
    with _trained(base, recipe, part, start, accelerator) as tuned:
        return _loss(base, recipe, part, tuned), held_out_answers(tuned.adapter, base, recipe, part, accelerator)


@contextmanager
def _trained(
    base: Base, recipe: Recipe, part: Material, start: Start, accelerator: Accelerator | None
) -> Iterator[Tuned]:
    unlogged = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"trackers": []})})
    tuned = tune(base, unlogged, part.train, [], part.labels, part.prompter, start=start, accelerator=accelerator)
    try:
        yield tuned
    finally:
        tuned.adapter.detach()


def _loss(base: Base, recipe: Recipe, part: Material, tuned: Tuned) -> float:
    batches = in_batches(recipe, part.valid, part, head_labels(base, recipe, [part]))
    return mean_loss(base, recipe, batches, lambda batch: answer_sums(tuned.adapter, batch.tree))


def answers_of_folds(
    base: Base, recipe: Recipe, material: Material, start: Start, accelerator: Accelerator
) -> list[tuple[Material, Predictions]]:
    """What adapters answer to examples that they were not trained on, where too few can be held out of one training.

    Args:
        base: bare; as it was afterwards.
        recipe: how to train.
        material: the merchant's.
        start: weights to start from.
        accelerator: from `make_accelerator`.

    Returns:
        for each fold its material and the answers to its `valid`; none if there are too few examples for folds, or so
        many that a validation set is enough.
    """
    parts = folds(recipe, material)
    if parts and parts[0] is material:
        return []
    return [(part, held_out(base, recipe, part, start, accelerator)[1]) for part in parts]


def mean_loss(base: Base, recipe: Recipe, batches: Sequence[Batch], answer: Callable[[Batch], Tensor]) -> float:
    """The task's loss an example.

    Args:
        base: on whose device the batches are answered.
        recipe: says the task.
        batches: from `in_batches`.
        answer: gives the log-probabilities of a batch on the base's device.
    """
    total = 0.0
    with torch.inference_mode():
        for batch in (batch.to(base.device) for batch in batches):
            loss = task_loss(answer(batch), batch, recipe.task, recipe.tune.temperature)
            total += float(loss) * len(batch.weights)
    return total / sum(len(batch.weights) for batch in batches)


def in_batches(recipe: Recipe, rows: Sequence[Example], material: Material, head: Sequence[str] = ()) -> list[Batch]:
    """Examples of a merchant as batches to measure a loss on; `head` as for `Lessons`."""
    lessons = Lessons(rows, material.prompter, material.labels, recipe.tune, head)
    numbers = range(len(rows))
    return [
        lessons.collate([lessons[number] for number in numbers[first : first + _BATCH]])
        for first in range(0, len(rows), _BATCH)
    ]
