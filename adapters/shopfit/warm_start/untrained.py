"""What a decoder can be without a step of training: itself without its bias between labels, or behind the examples.

A decoder finds some labels likelier than others whatever the question is, and more so behind examples. That bias is
measured on texts of the merchant's own words in any order, which say nothing, and subtracted (domain-context
calibration, arXiv:2305.19148). Examples that it would read before a question are read once, and their keys and values
kept as a prefix (Context Tuning, arXiv:2507.04221, at zero steps).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from shopfit.adapter.initial_weights import Start
from shopfit.base.attention import Attention
from shopfit.base.load import Base
from shopfit.base.placement import block_devices
from shopfit.base.prefix import Prefix, lay_before, prefix_of
from shopfit.base.prompt import Prompter
from shopfit.engine.offline_scoring import ask
from shopfit.merchant.examples import Example
from shopfit.merchant.sampling import in_order
from shopfit.merchant.text import clusters, parts_of
from shopfit.recipe.schema import Recipe
from shopfit.tasks import TrainingQuestion, task_of
from shopfit.tune.training_dataset import TrainingSet

CALIBRATED, CONTEXT = "calibrated", "context"
_BUDGET = 384  # tokens of a prefix, at most: every answer attends to all of them
_LOOKED_AT = 1_000  # examples, at most
_BETWEEN = "\n\n"
_TEXTS = 8  # that say nothing
_WORDS = 64  # of such a text, at most


def untrained_starts(base: Base, recipe: Recipe) -> list[str]:
    """Names of the starts that `untrained_start` can make, the simplest first; none but on a decoder."""
    if base.kind != "decoder":
        return []
    found = [CALIBRATED] if _biased(recipe) else []
    return [*found, CONTEXT] if base.prefix_shape is not None and _budget(base, recipe) > 0 else found


def untrained_start(name: str, base: Base, recipe: Recipe, training_set: TrainingSet) -> Start:
    """A start to be kept as it is.

    Args:
        name: from `untrained_starts`; `context` is `calibrated`, or the base as it is, where no example fits.
        base: bare.
        recipe: of the merchant.
        training_set: the merchant's; it sees `train` alone.
    """
    training_set = training_set.under(recipe)
    prefix = None
    if name == CONTEXT:
        tokens = _shown(training_set, _budget(base, recipe), f"{recipe.tune.seed}/{CONTEXT}")
        prefix = prefix_of(base.model, tokens) if tokens else None
    offsets = _offsets(base, training_set, prefix) if _biased(recipe) else ()
    if prefix is None and not _biased(recipe):
        return Start(kept=True)
    return Start(CALIBRATED if prefix is None else CONTEXT, prefix=prefix, offsets=offsets, kept=True)


def _biased(recipe: Recipe) -> bool:
    """Whether there are labels to find likelier than others, and texts to measure that on."""
    return recipe.spec.single_label and bool(_texts(recipe))


def _texts(recipe: Recipe) -> list[str]:
    """Fields of the prompt that are not lists of items."""
    return [name for name in recipe.fields if name not in recipe.data.item_fields]


def _budget(base: Base, recipe: Recipe) -> int:
    """Tokens that a prefix may have: of what the base reads besides a prompt, half; no more than a layer's window."""
    window = getattr(base.scorer, "attention", Attention()).window
    written = recipe.serve.max_new_tokens if recipe.spec.written else 0
    most = min(_BUDGET, (base.max_length - recipe.prompt.max_tokens - written) // 2)
    return most if window is None else min(most, window)


def _shown(training_set: TrainingSet, budget: int, seed: str) -> list[int]:
    """Prompts with their right answers, as many as fit.

    Where all examples have the same answers: rounds of one example an answer, as long as a whole round fits; of the
    first round, as many as fit.
    """
    prompter, names = training_set.prompter, training_set.labels
    task, answers = task_of(prompter.recipe.task), [prompter.label(name) for name in names]
    between = prompter.plain.encode(_BETWEEN, special=False)
    waiting: dict[Sequence[int], list[tuple[Example, Sequence[int]]]] = {}
    for example in in_order(training_set.train, seed)[:_LOOKED_AT]:
        right = task.right_answer(TrainingQuestion(example, prompter, names, answers, list))
        waiting.setdefault(right if answers else (), []).append((example, right))

    def rows(examples: Sequence[tuple[Example, Sequence[int]]]) -> Iterator[Sequence[int]]:
        return ((*prompter.encode(example.fields), *right, *between) for example, right in examples)

    left = [rows(examples) for examples in waiting.values()]
    shown: list[int] = []
    while True:
        found: list[Sequence[int]] = []
        for mine in left:
            free = budget - len(shown) - sum(map(len, found))
            fitting = next((tokens for tokens in mine if len(tokens) <= free), None)
            found += [] if fitting is None else [fitting]
        if not found or (shown and len(found) < len(left)):
            return shown
        shown += [token for tokens in found for token in tokens]


def _offsets(base: Base, training_set: TrainingSet, prefix: Tensor | None) -> tuple[float, ...]:
    """The mean log-probability of each label after texts that say nothing, behind the prefix if there is one."""
    prompter = training_set.prompter
    fields, temperature = _without_content(prompter, training_set.train), prompter.recipe.tune.temperature
    if not fields:
        return ()
    said = np.array(ask(_Behind(base, prefix), prompter, fields, labels=training_set.labels))
    mean = np.log(np.maximum(said, np.finfo(float).tiny)).mean(0) * temperature
    return tuple(round(float(offset), 6) for offset in mean)


@dataclass(frozen=True, slots=True)
class _Behind:
    """A base behind a prefix, or as it is, as an adapted model."""

    base: Base
    keys_and_values: Tensor | None
    head: None = None
    offsets: tuple[float, ...] = ()

    @property
    def model(self) -> Any:
        return self.base.model

    def prefix(self, rows: int) -> Prefix | None:
        return lay_before([self.keys_and_values] * rows, self.base.device, block_devices(self.base.model))


def _without_content(prompter: Prompter, examples: Sequence[Example]) -> list[dict[str, str]]:
    """Rows whose texts are words of the examples' in any order, as long as theirs are on the whole."""
    rng = random.Random(f"{prompter.recipe.tune.seed}/{CALIBRATED}")
    words: dict[str, tuple[list[str], int]] = {}
    for name in _texts(prompter.recipe):
        texts = [_words(shown) for example in examples if (shown := prompter.show(name, example.fields.get(name)))]
        if drawn := [word for text in texts for word in text]:
            words[name] = drawn, min(_WORDS, -(-len(drawn) // len(texts)))
    rows = range(_TEXTS if words else 0)
    return [{name: " ".join(rng.choices(drawn, k=count)) for name, (drawn, count) in words.items()} for _ in rows]


def _words(text: str) -> list[str]:
    """Words between spaces; of scripts that have none, characters."""
    parts = ((text[start:end], dense) for start, end, dense in parts_of(text))
    return [word for part, dense in parts for word in (clusters(part) if dense else [part])]
