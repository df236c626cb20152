"""Self-training: the adapter's surest answers to unlabeled rows, taken for labels (arXiv:1911.04252).

Each round trains from the same start again, with the examples and with pseudo-labels that weigh less. Whether that
helps is measured on held-out examples: the validation set from 100 examples on, three folds below, where every fold
makes its pseudo-labels with an adapter that has not seen what the fold holds out. A round that does not help is
dropped, and is the last.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from shopfit.adapter.bundle import SelfTrainingRound
from shopfit.adapter.initial_weights import Start
from shopfit.engine.offline_scoring import ask
from shopfit.evaluation.calibration import at_temperature, fit_temperature
from shopfit.evaluation.metrics import measure
from shopfit.merchant.examples import Example
from shopfit.merchant.sampling import draw
from shopfit.recipe.schema import Recipe
from shopfit.recipe.tasks import METRICS
from shopfit.tasks import ChoosePredictions, task_of
from shopfit.tasks.predictions import Floats
from shopfit.tune.folds import folds, without_trackers
from shopfit.tune.trainer import Trainer, Tuned
from shopfit.tune.training_dataset import TrainingSet

WEIGHT = 0.5  # of a pseudo-label, where an example weighs 1
_LOOKED_AT = 2000  # unlabeled rows
_EACH = 4  # pseudo-labels an example


@dataclass(frozen=True, slots=True)
class SelfTrained:
    """The outcome of self-training.

    Args:
        pseudo: the pseudo-labels to train with besides the examples; none if no round helped.
        rounds: every round, of which the last may have been dropped.
        parts: of `folds`, each with the pseudo-labels of an adapter that has not seen what the part holds out; empty
            where there are none.
    """

    pseudo: tuple[Example, ...] = ()
    rounds: tuple[SelfTrainingRound, ...] = ()
    parts: tuple[TrainingSet, ...] = ()


@dataclass(frozen=True, slots=True)
class _Answers:
    """What an adapter answers.

    Args:
        held_out: of the examples that it was not trained on.
        unlabeled: (U, L) probabilities of L labels, as trained.
    """

    held_out: ChoosePredictions
    unlabeled: Floats


def self_train(
    trainer: Trainer,
    recipe: Recipe,
    training_set: TrainingSet,
    unlabeled: Sequence[Example],
    *,
    start: Start,
    reporter: Callable[[str, str], None],
) -> SelfTrained:
    """The pseudo-labels to train with besides the examples, after as many rounds as help.

    Args:
        trainer: on a bare base, which is so again afterwards.
        recipe: of task choose; its `tune.self_training` says how many rounds, and from which confidence on.
        training_set: the merchant's examples.
        unlabeled: rows that repeat none of them.
        start: of the adapter.
        reporter: told what came of each round.
    """
    wanted = recipe.tune.self_training
    if not wanted.rounds:
        return SelfTrained()
    rows = draw(unlabeled, _LOOKED_AT, f"{recipe.tune.seed}/unlabeled")
    parts = folds(recipe, training_set)
    if not parts or not rows:
        reporter(
            "unlabeled", "no self-training: " + ("too few examples to tell if it helps" if rows else "no rows left")
        )
        return SelfTrained()
    # the last one is trained as the adapter will be
    sets = parts if parts[0] is training_set else [*parts, training_set]

    def trained_with(pseudo: Sequence[Sequence[Example]]) -> list[_Answers]:
        quiet, taught = without_trackers(recipe), _with(sets, pseudo)
        queued = [  # a fold is not looked at while training
            trainer.queue(part if number == len(sets) else replace(part, valid=[]), quiet, start)
            for number, part in enumerate(taught, 1)
        ]
        return [_answers_of(training, part, rows) for training, part in zip(queued, taught, strict=True)]

    chosen: list[list[Example]] = [[] for _ in sets]
    answered = trained_with(chosen)
    held_out, factor = _calibrated(answered[: len(parts)])
    rounds: list[SelfTrainingRound] = []
    for number in range(1, wanted.rounds + 1):
        proposed = [
            pseudo_labels(
                rows,
                at_temperature(one.unlabeled, factor),
                training_set.labels,
                wanted.confidence,
                most=_EACH * len(part.train) // len(training_set.labels),
            )
            for part, one in zip(sets, answered, strict=True)
        ]
        if not proposed[-1]:
            reporter(f"round {number}", f"not every label is given to a row with confidence {wanted.confidence}")
            break
        answered = trained_with(proposed)
        now_held_out, factor = _calibrated(answered[: len(parts)])
        before, after = _merit(recipe, held_out), _merit(recipe, now_held_out)
        kept = after >= before
        rounds.append(
            SelfTrainingRound(
                number=number, pseudo_labels=len(proposed[-1]), before=abs(before[0]), after=abs(after[0]), kept=kept
            )
        )
        reporter(
            f"round {number}",
            f"{len(proposed[-1])} pseudo-labels of {len(rows)} rows; {recipe.evaluate.metric} on held-out examples "
            f"{abs(before[0]):.3f} -> {abs(after[0]):.3f}, {'kept' if kept else 'dropped'}",
        )
        if not kept:
            break
        chosen, held_out = proposed, now_held_out
    folds_with_pseudo = _with(parts, chosen[: len(parts)]) if chosen[-1] else []
    return SelfTrained(tuple(chosen[-1]), tuple(rounds), tuple(folds_with_pseudo))


def _with(sets: Sequence[TrainingSet], pseudo: Sequence[Sequence[Example]]) -> list[TrainingSet]:
    """Each with its own pseudo-labels in `beside`."""
    return [replace(part, beside=more) for part, more in zip(sets, pseudo, strict=True)]


def pseudo_labels(
    rows: Sequence[Example], probabilities: Floats, labels: Sequence[str], confidence: float, *, most: int
) -> list[Example]:
    """The surest rows as examples, as many of each label as the rarest one permits.

    Args:
        rows: U unlabeled rows.
        probabilities: (U, L) calibrated, of L labels.
        labels: L of them.
        confidence: least probability of the answer.
        most: of each label; one is always allowed.
    """
    sure, answers = probabilities.max(1), probabilities.argmax(1)
    order = np.argsort(-sure, kind="stable")
    by_label = [
        [row for row in order if answers[row] == label and sure[row] >= confidence] for label in range(len(labels))
    ]
    each = min(max(1, most), *map(len, by_label))
    return [
        replace(rows[row], id=f"unlabeled/{rows[row].id}", label=label, weight=WEIGHT * rows[row].weight)
        for label, mine in zip(labels, by_label, strict=True)
        for row in mine[:each]
    ]


def _answers_of(training: AbstractContextManager[Tuned], part: TrainingSet, rows: Sequence[Example]) -> _Answers:
    """Train, and ask about the held-out examples and the unlabeled rows."""
    asked = [example.fields for example in (*part.valid, *rows)]
    with training as tuned:
        answers = ask(tuned.adapter, part.prompter, asked, labels=part.labels)
    count = len(part.valid)
    held_out = task_of("choose").collect(part.labels, part.valid, [()] * count, answers[:count], None)
    assert isinstance(held_out, ChoosePredictions)
    return _Answers(held_out, np.array(answers[count:]))


def _calibrated(answered: Sequence[_Answers]) -> tuple[ChoosePredictions, float]:
    """All held-out answers at the temperature that fits them, and that temperature."""
    raw = ChoosePredictions.join([one.held_out for one in answered])
    factor = fit_temperature(raw)
    return replace(raw, probabilities=at_temperature(raw.probabilities, factor)), factor


def _merit(recipe: Recipe, held_out: ChoosePredictions) -> tuple[float, float]:
    """The recipe's metric, higher is better; and as tie-break, how likely the right answers are."""
    values = measure(held_out, [recipe.evaluate.metric, "log_loss"], recipe.evaluate.k)
    metric = values[recipe.evaluate.metric]
    metric = 0.0 if math.isnan(metric) else metric  # such as AUC of one label: then only the likelihood counts
    return METRICS[recipe.evaluate.metric].merit(metric), -values["log_loss"]
