"""What a run will cost, from its real data and one measured batch. Nothing is trained."""

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, linear_regression

import torch

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.adapter.trainable import attach
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.evaluation.assess import ask
from shopfit.merchant.splits import Splits
from shopfit.recipe.schema import Recipe
from shopfit.tasks import Pool, task_of
from shopfit.tune.batches import LengthSortedBatches, shares
from shopfit.tune.memory import peak_memory_mb
from shopfit.tune.objectives import Objective
from shopfit.tune.training_dataset import TrainingDataset
from shopfit.tune.training_loop import total_steps

_COUNTED = 256  # training rows whose tokens are counted, where there are more
_SAMPLE = 2  # test examples that evaluation is timed on
_READ = 8  # of their candidates, for an encoder


@dataclass(frozen=True, slots=True)
class Plan:
    """The cost of a run, on this machine.

    Args:
        examples: to train on.
        valid: held out of them to stop early.
        test: to evaluate on.
        steps: optimizer steps at most.
        tokens_per_epoch: that training reads in an epoch, padding left out; of many rows, an estimate.
        longest: tokens of the longest training row; of many rows, of the longest by characters and some others.
        trainable_parameters: numbers in the adapter.
        adapter_mb: the adapter's size in MB (10^6 bytes), float32.
        train_seconds: estimate, with checks after each epoch, if it does not stop early.
        evaluate_seconds: estimate for adapter and base on the test set.
        peak_memory_mb: measured while the largest batch was in work, in MB (10^6 bytes).
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
    tokens_per_epoch: int
    longest: int
    trainable_parameters: int
    adapter_mb: float
    train_seconds: float
    evaluate_seconds: float
    peak_memory_mb: float
    dtype: str = "float32"
    labels: Mapping[str, int] = field(default_factory=dict)
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    contradictions: Mapping[str, int] = field(default_factory=dict)
    contradict: str = ""


def plan(base: Base, recipe: Recipe, splits: Splits, prompter: Prompter) -> Plan:
    """Measure one batch, the longest, and estimate the whole run from it.

    Args:
        base: loaded; as it was afterwards.
        recipe: what would be made.
        splits: the merchant's examples.
        prompter: for this recipe and merchant.
    """
    settings, train = recipe.tune, splits.train
    dataset = TrainingDataset(train, prompter, splits.labels, settings)
    lengths = _lengths(dataset, [len(prompter.text(example.fields)) for example in train], settings.seed)
    steps = total_steps(recipe, len(train))
    state = torch.random.get_rng_state()
    adapter = attach(base, recipe.adapter, total_steps=max(steps, 1), opening=prompter.encode(train[0].fields))
    try:
        objective = Objective(adapter, recipe.task, settings)
        sampler = LengthSortedBatches(len(train), settings.rows_a_step, lengths.__getitem__, settings.seed)
        forwards = [(rows, part) for rows in sampler for part in shares(rows, settings.accumulate)]
        padded = [len(part) * max(lengths[rows[place]] for place in part) for rows, part in forwards]
        rows, largest = forwards[padded.index(max(padded))]
        for places in (largest[:2], largest):  # the first ones warm up
            batch = dataset.collate([dataset[index] for index in rows], places).to(base.device)
            started = time.perf_counter()
            if settings.contrastive and len(places) < len(rows):  # each part first tells the others its states
                objective.prompt_states(batch)
            loss: torch.Tensor = objective(batch)[0] + adapter.penalty()
            torch.autograd.backward(loss)
            if settings.adversarial:
                torch.autograd.backward(objective(batch, pushed=True)[0])
            per_token = (time.perf_counter() - started) / max(padded)
        peak = peak_memory_mb(base.device)
        adapter.peft.eval()
        valid_seconds, test_seconds = _answering(adapter, base, prompter, splits)
        parameters = adapter.size()
    finally:
        adapter.detach()
        torch.random.set_rng_state(state)
    contrary = splits.contradictions
    return Plan(
        examples=len(train),
        valid=len(splits.valid),
        test=len(splits.test),
        steps=steps,
        tokens_per_epoch=sum(lengths),
        longest=max(lengths),
        trainable_parameters=parameters,
        adapter_mb=parameters * 4 / 1e6,
        train_seconds=settings.epochs * (sum(padded) * per_token + valid_seconds),
        evaluate_seconds=2 * test_seconds,
        peak_memory_mb=peak,
        dtype=base.dtype,
        labels=splits.label_counts,
        spellings=splits.merged,
        contradictions=contrary.counts,
        contradict=str(contrary) if contrary.total else "",
    )


def _answering(adapted: AdaptedModel, base: Base, prompter: Prompter, splits: Splits) -> tuple[float, float]:
    """Seconds that answering all held-out and all test examples would take, by those of a few."""
    recipe, sample = prompter.recipe, list(splits.test[:_SAMPLE])
    valid: list[Pool] = [()] * len(splits.valid)
    test: list[Pool] = [()] * len(splits.test)
    if base.scorer.compares_texts and recipe.spec.items:
        pools = task_of(recipe.task).pools
        valid, test = (pools(recipe, rows, prompter.catalog) for rows in (splits.valid, splits.test))
        sample = [replace(row, candidates=pool[:_READ]) for row, pool in zip(sample, test, strict=False)]
    started = time.perf_counter()
    ask(adapted, base, prompter, splits.labels, sample)
    seconds = time.perf_counter() - started

    def texts(asked: Sequence[Pool]) -> int:
        """That are read: each once where texts are compared, else the prompts."""
        answers = len({item for pool in asked for item in pool}) + len(splits.labels)
        return len(asked) + (answers if base.scorer.compares_texts else 0)

    each = seconds / texts([row.candidates or () for row in sample])
    return each * texts(valid), each * texts(test)


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
