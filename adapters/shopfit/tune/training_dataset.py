"""Examples to train on: questions with known answers, of one merchant or of several."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import ClassIndex, Question
from shopfit.base.scoring.scorer import QuestionBatch
from shopfit.merchant.augmentation import Augmentation
from shopfit.merchant.examples import Example, Fields, seen
from shopfit.merchant.item_sampling import draw_others
from shopfit.recipe.schema import Recipe, Tune
from shopfit.tasks import TrainingQuestion, task_of

Row = tuple[Question, tuple[Any, ...], float]
"""A question, a target of each of its answers, and its weight."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """One merchant's training data.

    Args:
        train: examples to learn from, at least one.
        valid: examples held out for early stopping; may be empty.
        labels: names of the answers that every question has: every label of `choose`.
        prompter: for this recipe and merchant.
        beside: further examples, not from the example file: pretext pairs, pseudo-labels.
    """

    train: Sequence[Example]
    valid: Sequence[Example]
    labels: Sequence[str]
    prompter: Prompter
    beside: Sequence[Example] = ()

    @property
    def training_examples(self) -> list[Example]:
        """What the weights are fitted on."""
        return [*self.beside, *self.train]

    def under(self, recipe: Recipe) -> "TrainingSet":
        """The same, read by a recipe that differs in how it trains."""
        return replace(self, prompter=self.prompter.under(recipe))


@dataclass(frozen=True, slots=True)
class Batch:
    """B of the N examples of an optimizer step, ready for a forward.

    Args:
        questions: laid out for the base.
        gold: (A, ...) the task's targets, such as whether an answer is right: one or more a question.
        weights: (B,) share of each example in the loss; 1 on average over all examples, not over the batch.
        places: (B,) which of the step's examples they are.
        classes: (N,) the same number for examples of the step whose right answers are the same.
        share: of the batch in what the step's loss is divided by; 1 if it is the whole step.
    """

    questions: QuestionBatch
    gold: Tensor
    weights: Tensor
    places: Tensor
    classes: Tensor
    share: float

    def to(self, device: torch.device | str) -> "Batch":
        """The same on `device`."""
        return Batch(
            self.questions.to(device),
            self.gold.to(device),
            self.weights.to(device),
            self.places.to(device),
            self.classes.to(device),
            self.share,
        )


class TrainingDataset:
    """Turns examples into questions with known answers. While training, `data.augment` varies them anew each epoch.

    Args:
        examples: the training examples.
        prompter: writes their prompts and answers.
        labels: as of the training set.
        tune: the recipe's `tune` section: seed and number of negatives.
        head: labels of the head's rows, where answers are classes; none where they are words.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        prompter: Prompter,
        labels: Sequence[str],
        tune: Tune,
        head: Sequence[str] = (),
    ) -> None:
        self.examples = examples
        self.prompter = prompter
        self.tune = tune
        self.epoch = 0
        self._task = task_of(prompter.recipe.task)
        total = sum(example.weight for example in examples)
        # relative to the mean of all examples, not of the batch: batches of light examples count for less
        self._weights = [example.weight * len(examples) / total for example in examples]
        classes = {label: ClassIndex(row) for row, label in enumerate(head)}
        self._names = labels
        self._answers = [classes[label] if head else prompter.label(label) for label in labels]
        self._asking = [prompter.asking(example.fields) for example in examples]
        self._augmentation = Augmentation(prompter.recipe, prompter.catalog, prompter.history)
        self._items = list(
            prompter.catalog
            or dict.fromkeys(item for example in examples for item in (*example.relevant, *(example.candidates or ())))
        )
        self._places = {item: place for place, item in enumerate(self._items)}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Row:
        """The question of one example, the targets of its answers, and its weight."""
        example, weight = self.examples[index], self._weights[index]
        fields, (prompt, *more) = self._shown(index)
        negatives = partial(self._negatives, index, fields)
        asked = TrainingQuestion(example, self.prompter, self._names, self._answers, negatives)
        answers, right = self._task.training_answers(asked)
        return Question(prompt, answers, tuple(more)), right, weight

    def _shown(self, index: int) -> tuple[Fields, tuple[tuple[int, ...], ...]]:
        """An example's fields and prompt tokens, as this epoch augments them; unchanged outside training (epoch 0)."""
        example = self.examples[index]
        fields = self._augmentation(example, self.epoch) if self.epoch else example.fields
        return fields, self._asking[index] if fields is example.fields else self.prompter.asking(fields)

    def _negatives(self, index: int, fields: Fields) -> list[str]:
        """Drawn anew each epoch, the same whichever process draws them."""
        example = self.examples[index]
        known = {*example.relevant, *(() if self.prompter.recipe.data.repeats else seen(fields))}
        draw = random.Random(f"{self.tune.seed}/{self.epoch}/{index}")
        if example.candidates:
            pool = [item for item in example.candidates if item not in known]
            return draw.sample(pool, min(self.tune.negatives, len(pool)))
        return draw_others(draw, self._items, self._places, known, self.tune.negatives)

    def length(self, index: int) -> int:
        """Tokens of the question, for sorting."""
        return self[index][0].tokens

    def collate(self, rows: Sequence[Row], places: Sequence[int] | None = None) -> Batch:
        """Lay rows of the dataset out as one batch.

        Args:
            rows: N of them, those of a step.
            places: the rows that are laid out, where that is a part of the step; all of them by default.
        """
        prompter = self.prompter
        if prompter.scorer.compares_texts and prompter.recipe.spec.items:
            rows = share_negatives(rows)
        places = range(len(rows)) if places is None else places
        classes: dict[tuple[Any, ...], int] = {}
        for place, (question, right, _) in enumerate(rows):
            classes.setdefault(_right(question, right), place)
        sizes = [self._task.size(question.answers) for question, _, _ in rows]
        questions, gold, weights = zip(*(rows[place] for place in places), strict=True)
        return Batch(
            prompter.scorer.collate(questions),
            torch.tensor([right for row in gold for right in row]),
            torch.tensor(weights, dtype=torch.float32),
            torch.tensor(places),
            torch.tensor([classes[_right(question, right)] for question, right, _ in rows]),
            sum(sizes[place] for place in places) / sum(sizes),
        )


def _right(question: Question, gold: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(answer for answer, good in zip(question.answers, gold, strict=True) if good)


def share_negatives(rows: Sequence[Row]) -> list[Row]:
    """In-batch negatives: what is right for one question is wrong for the others, unless it is among their answers.

    Where texts are compared they cost nothing: each text of a batch is there once.
    """
    right = dict.fromkeys(answer for question, gold, _ in rows for answer in _right(question, gold))
    shared = []
    for question, gold, weight in rows:
        more = tuple(answer for answer in right if answer not in question.answers)
        shared.append((replace(question, answers=question.answers + more), gold + (False,) * len(more), weight))
    return shared


class BalancedTrainingDataset:
    """Examples of several merchants, equally many of each an epoch.

    Args:
        merchants: the training set of each.
        tune: the recipe's `tune` section.
        per_merchant: examples of each an epoch; those of the merchant with the most by default. A merchant with fewer
            repeats some of them, one with more gives others in the next epoch.
        head: as for `TrainingDataset`.
    """

    def __init__(
        self, merchants: Sequence[TrainingSet], tune: Tune, per_merchant: int | None = None, head: Sequence[str] = ()
    ) -> None:
        self._datasets = [TrainingDataset(each.train, each.prompter, each.labels, tune, head) for each in merchants]
        self._each = per_merchant or max(map(len, self._datasets))
        self._seed = tune.seed
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """Counted from 1 while training; what is sampled depends on it."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        for dataset in self._datasets:
            dataset.epoch = epoch
        self._order = [self._drawn(number, len(dataset)) for number, dataset in enumerate(self._datasets)]

    def _drawn(self, merchant: int, count: int) -> list[int]:
        """Which examples of a merchant this epoch has: all in turn, in an order that the seed gives."""
        if count == self._each:
            return list(range(count))
        order = random.Random(f"{self._seed}/{merchant}").sample(range(count), count)
        first = max(0, self._epoch - 1) * self._each
        return [order[(first + place) % count] for place in range(self._each)]

    def __len__(self) -> int:
        return self._each * len(self._datasets)

    def __getitem__(self, index: int) -> Row:
        """The question of one example, the targets of its answers, and its weight."""
        merchant, place = divmod(index, self._each)
        return self._datasets[merchant][self._order[merchant][place]]

    def ids(self, indices: Sequence[int]) -> list[str]:
        """Names of examples, for messages."""
        found = []
        for index in indices:
            merchant, place = divmod(index, self._each)
            found.append(self._datasets[merchant].examples[self._order[merchant][place]].id)
        return found

    def length(self, index: int) -> int:
        """Tokens of the question, for sorting."""
        return self[index][0].tokens

    def collate(self, rows: Sequence[Row], places: Sequence[int] | None = None) -> Batch:
        """Lay rows of the dataset out as one batch, as `TrainingDataset.collate` does."""
        return self._datasets[0].collate(rows, places)
