"""What a run will cost, from its real data and a few measured steps. What they train is thrown away.

Left out is what others' adapters, a large catalog, unlabeled rows or a search add: more starts, and trainings of them.
"""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, linear_regression

import psutil
import torch

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import Engine, Tenant
from shopfit.evaluation.assess import ask, assess
from shopfit.evaluation.report import CurvePoint
from shopfit.merchant.examples import Example
from shopfit.merchant.search import Embed
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Pool, task_of
from shopfit.tune.batches import LengthSortedBatches
from shopfit.tune.folds import folds, without_trackers
from shopfit.tune.memory import peak_memory_mb
from shopfit.tune.processes import check_alone
from shopfit.tune.run_context import RunContext
from shopfit.tune.trainer import Trainer, head_labels
from shopfit.tune.training_callback import NoCallback
from shopfit.tune.training_dataset import TrainingDataset, TrainingSet
from shopfit.tune.training_loop import total_steps

_COUNTED = 256  # training rows whose tokens are counted, where there are more
_STEPS = 3  # that are measured, from the shortest to the longest
_SAMPLE = 8  # test examples that evaluation is timed on
_READ = 8  # of their candidates, for an encoder
_ASKED = 3  # adapter, instant version and base
_SHOWN = 32  # examples that a decoder's instant version is chosen by


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a run, on this machine.

    Args:
        examples: to train on.
        valid: held out of them to stop early.
        test: to evaluate on.
        steps: optimizer steps at most.
        trainings: on parts of the examples, to learn how far to trust the adapter, before the one on all of them.
        tokens_per_epoch: that training reads in an epoch, padding left out; of many rows, an estimate.
        longest: tokens of the longest training row; of many rows, of the longest by characters and some others.
        trainable_parameters: numbers in the adapter.
        adapter_mb: the adapter's size in MB (10^6 bytes), float32.
        train_seconds: estimate of the training on all examples, if it does not stop early, with checks of epochs.
        parts_seconds: estimate of those on parts.
        evaluate_seconds: estimate of what is asked of the test set: adapter, instant version and base.
        begin_seconds: from the start of this process until the base was loaded, as a run's own would take.
        peak_memory_mb: of a training with the largest batch, and of some answers after it, in MB (10^6 bytes).
        dtype: what the base's numbers are.
        labels: choose: how many examples each has to train on.
        spellings: choose: of each label that had several spellings, how often each was written.
        contradictions: rows of the same text with different answers: "train", "test", "between" them.
        contradict: the same in words, with places; empty if there are none.
    """

    examples: int
    valid: int
    test: int
    steps: int
    trainings: int
    tokens_per_epoch: int
    longest: int
    trainable_parameters: int
    adapter_mb: float
    train_seconds: float
    parts_seconds: float
    evaluate_seconds: float
    begin_seconds: float
    peak_memory_mb: float
    dtype: str = "float32"
    labels: Mapping[str, int] = field(default_factory=dict)
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    contradictions: Mapping[str, int] = field(default_factory=dict)
    contradict: str = ""

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return self.begin_seconds + self.train_seconds + self.parts_seconds + self.evaluate_seconds


def plan(context: RunContext, embed: Embed | None = None) -> Plan:
    """Measure a short training and estimate the whole run from it.

    Args:
        context: the run's inputs, from `prepare`; its base is bare afterwards.
        embed: turns texts into vectors, if the run will: for the memory that takes.

    Raises:
        ShopfitError: on several processes.
        Diverged: if a step's numbers are not finite.
    """
    check_alone("a plan is measured in one process, not in", context.trainer.accelerator)
    began = time.time() - psutil.Process().create_time()
    base, recipe, splits = context.base, context.recipe, context.splits
    training_set, parts = context.training_set, context.cross_validated
    train, settings = training_set.training_examples, recipe.tune
    head = head_labels(base, recipe, [training_set])
    dataset = TrainingDataset(train, context.prompter, training_set.labels, settings, head)
    lengths = _lengths(dataset, [len(context.prompter.text(row.fields)) for row in train], settings.seed)
    sampler = LengthSortedBatches(len(train), settings.rows_a_step, lengths.__getitem__, settings.seed)
    ordered = sorted(sampler, key=lambda rows: _padded(rows, lengths))
    places = sorted({round(place * (len(ordered) - 1) / max(1, _STEPS - 1)) for place in range(_STEPS)})
    measured = [ordered[place] for place in places]
    state = torch.random.get_rng_state()
    clock, short = _Clock(), _shortened(recipe)
    rows = replace(training_set, train=[train[row] for step in measured for row in step], valid=(), beside=())
    tuned = Trainer(base, context.trainer.accelerator, clock).fit(rows, short)
    try:
        tuned.adapter.peft.eval()
        answering = _Answering.of(tuned.adapter, base, context.prompter, training_set, splits.test)
        parameters = tuned.adapter.size()
    finally:
        tuned.adapter.detach()
        torch.random.set_rng_state(state)
    _as_reported(context, embed)
    more = sum(_padded(step, lengths) for step in ordered) / sum(_padded(step, lengths) for step in measured)
    first, later = (seconds * more for seconds in clock.epochs)

    def of(part: TrainingSet) -> float:
        """Seconds that training on a part takes, and asking it what is held out."""
        share = len(part.training_examples) / len(train)
        taken = total_steps(recipe, len(part.training_examples)) / max(1, len(ordered) * share)  # epochs
        return share * (min(1.0, taken) * first + max(0.0, taken - 1) * later)

    checks, starts = settings.epochs if splits.valid else 0, _starts(base, recipe)
    shown = training_set.train[:_SHOWN] if starts and folds(recipe, training_set) else ()
    contrary = splits.contradictions
    return Plan(
        examples=len(train),
        valid=len(splits.valid),
        test=len(splits.test),
        steps=total_steps(recipe, len(train)),
        trainings=len(parts),
        tokens_per_epoch=sum(lengths),
        longest=max(lengths),
        trainable_parameters=parameters,
        adapter_mb=parameters * 4 / 1e6,
        train_seconds=of(training_set) + checks * answering.seconds(splits.valid),
        parts_seconds=sum(of(part) + answering.seconds(part.valid) for part in parts),
        evaluate_seconds=_ASKED * answering.seconds(splits.test) + starts * answering.seconds(shown),
        begin_seconds=began,
        peak_memory_mb=peak_memory_mb(base.device),
        dtype=base.dtype,
        labels=splits.label_counts,
        spellings=splits.merged,
        contradictions=contrary.counts,
        contradict=str(contrary) if contrary.total else "",
    )


def _starts(base: Base, recipe: Recipe) -> int:
    """How often held-out examples are asked to find the instant version; behind a prefix takes twice as long."""
    if base.kind != "decoder":
        return 0
    return 4 if recipe.spec.single_label else 3


def _as_reported(context: RunContext, embed: Embed | None) -> None:
    """Answer some test examples as the report does, for the memory that takes, with the libraries that draw it up."""
    import matplotlib.backends.backend_agg  # noqa: F401
    import sklearn.linear_model  # noqa: F401

    recipe, splits = context.recipe, context.splits
    if embed is not None:
        embed([context.prompter.text(row.fields) for row in (*context.seen, *splits.test)])
    tenant = Tenant("the base", recipe, tuple(splits.labels), context.prompter.catalog, context.prompter.history)
    with Engine(context.base, slots=2, max_rank=LARGEST_RANK) as engine:
        assess(engine, tenant, splits.test[:_SAMPLE])


class _Clock(NoCallback):
    """Times the steps of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self._since = 0.0

    def begin(self, steps: int) -> None:  # noqa: ARG002 - as all that see a training
        """The first epoch starts."""
        self._since = time.perf_counter()

    def epoch(self, point: CurvePoint) -> None:  # noqa: ARG002
        """One is done."""
        now = time.perf_counter()
        self.epochs.append(now - self._since)
        self._since = now


def _shortened(recipe: Recipe) -> Recipe:
    """The recipe for two epochs: texts that an adapter of the last blocks reads once are kept in the first."""
    tune = without_trackers(recipe).tune.model_copy(update={"epochs": 2, "steps": None})
    return recipe.model_copy(update={"tune": tune})


def _padded(rows: Sequence[int], lengths: Sequence[int]) -> int:
    """Tokens of a step's rows with their padding."""
    return len(rows) * max(lengths[row] for row in rows)


@dataclass(frozen=True, slots=True)
class _Answering:
    """How long an adapter takes to answer, by a sample of the test set.

    Args:
        prompter: of the merchant.
        labels: that every question has.
        base: of the adapter.
        each: seconds a text that is read.
    """

    prompter: Prompter
    labels: Sequence[str]
    base: Base
    each: float

    @classmethod
    def of(
        cls, adapted: AdaptedModel, base: Base, prompter: Prompter, training_set: TrainingSet, test: Sequence[Example]
    ) -> "_Answering":
        """Measure it."""
        found = cls(prompter, training_set.labels, base, 0.0)
        sample = list(test[:_SAMPLE])
        if base.scorer.compares_texts and prompter.recipe.spec.items:
            pools = found._pools(sample)
            sample = [replace(row, candidates=pool[:_READ]) for row, pool in zip(sample, pools, strict=True)]
        started = time.perf_counter()
        ask(adapted, base, prompter, training_set.labels, sample)
        seconds = time.perf_counter() - started
        return replace(found, each=seconds / found._texts([row.candidates or () for row in sample]))

    def seconds(self, rows: Sequence[Example]) -> float:
        """That answering so many examples would take."""
        return self.each * self._texts(self._pools(rows)) if rows else 0.0

    def _pools(self, rows: Sequence[Example]) -> list[Pool]:
        """The items that each row ranks, where they are read: a decoder reads prompts."""
        recipe = self.prompter.recipe
        if not self.base.scorer.compares_texts:
            return [()] * len(rows)
        return task_of(recipe.task).pools(recipe, rows, self.prompter.catalog)

    def _texts(self, asked: Sequence[Pool]) -> int:
        """That are read: each once where texts are compared, else the prompts."""
        if not self.base.scorer.compares_texts:
            return len(asked)
        return len(asked) + len({item for pool in asked for item in pool}) + len(self.labels)


def _lengths(dataset: TrainingDataset, characters: Sequence[int], seed: int) -> list[int]:
    """Tokens of each example: counted where they are few, else of the longest and some drawn, and guessed by those."""
    everything = range(len(characters))
    if len(characters) <= _COUNTED:
        return [dataset.length(index) for index in everything]
    longest = sorted(everything, key=lambda index: -characters[index])[: _COUNTED // 4]
    drawn = random.Random(seed).sample(everything, _COUNTED)
    counted = {index: dataset.length(index) for index in (*drawn, *longest)}
    known, among = [float(characters[index]) for index in drawn], [float(counted[index]) for index in drawn]
    alike = len(set(known)) < 2
    slope, start = (0.0, fmean(among)) if alike else linear_regression(known, among)
    least, most = min(counted.values()), max(counted.values())
    guessed = [min(most, max(least, round(start + slope * count))) for count in characters]
    return [counted.get(index, guessed[index]) for index in everything]
