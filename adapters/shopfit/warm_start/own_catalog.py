"""A start from a merchant's own catalog: an encoder trained on pairs of an item's description and its title.

One self-supervised pass: a description is the query, its title is right, the batch's other titles are negatives. It
adapts the encoder to the shop's words and uses no example, so that all examples can evaluate it.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from shopfit.adapter.bundle import LORA, NATIVE
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.trainable import TrainableAdapter
from shopfit.adapter.weight_files import WEIGHTS, read_plain, write_plain
from shopfit.merchant.examples import Example
from shopfit.methods.lora import as_lora
from shopfit.methods.method import Factors
from shopfit.recipe.schema import Recipe
from shopfit.registry.temp_folders import CATALOG_PASS, owned_folder
from shopfit.tune.folds import calibrated_loss, scored, trained, without_trackers
from shopfit.tune.trainer import Trainer
from shopfit.tune.training_dataset import TrainingSet

CATALOG = "catalog"
LEAST = 256  # pairs; fewer are too few steps to change anything
_BATCH = 32  # titles that each description is compared with
_GAIN = 0.01  # share of the loss


def catalog_start(
    trainer: Trainer,
    recipe: Recipe,
    pairs: Sequence[Example],
    training_set: TrainingSet,
    *,
    reporter: Callable[[str, str], None],
) -> Start:
    """Weights from one pass over a catalog, if they lower the loss on the merchant's examples; else scratch.

    Args:
        trainer: on a bare encoder.
        recipe: of task rank; its `adapter` and `tune` sections say how to train.
        pairs: from `pairs_of_catalog`; too few make no start.
        training_set: the merchant's examples, at least one.
        reporter: told what it changed.
    """
    if len(pairs) < LEAST:
        return Start()
    reporter("start", f"{CATALOG}: one pass over {len(pairs)} items, from what is said of each to its title")
    once = _pass_recipe(recipe)
    with trainer.queue(TrainingSet(pairs, [], (), training_set.prompter), once) as tuned:
        start = Start(CATALOG, factors=_factors(tuned.adapter))
    before, after = (_untrained_loss(trainer, recipe, training_set, one) for one in (Start(), start))
    reporter("start", f"{CATALOG}: loss on the examples {before:.3f} -> {after:.3f}, trained on none of them")
    return start if after < (1 - _GAIN) * before else Start()


def _pass_recipe(recipe: Recipe) -> Recipe:
    """The recipe for the pass: plain LoRA, which every method starts from."""
    adapter, rate = as_lora(recipe.adapter, recipe.tune.lr)
    once = {"epochs": 1, "batch_size": _BATCH, "negatives": 0, "lr": rate, "interpolation": 1.0}
    quiet = without_trackers(recipe)
    return quiet.model_copy(update={"adapter": adapter, "tune": quiet.tune.model_copy(update=once)})


def _factors(adapter: TrainableAdapter) -> Factors:
    with owned_folder(Path(tempfile.gettempdir()), CATALOG_PASS) as folder:
        native, plain = folder / NATIVE, folder / LORA
        adapter.save(native)
        write_plain(native, plain)
        return read_plain((plain / WEIGHTS).read_bytes(), str(plain / WEIGHTS))


def _untrained_loss(trainer: Trainer, recipe: Recipe, training_set: TrainingSet, start: Start) -> float:
    """The loss on all examples of a start that is not trained further."""
    rows = [*training_set.train, *training_set.valid]
    whole = replace(training_set, train=rows, valid=rows)
    with trained(trainer, recipe, whole, replace(start, kept=True)) as untouched:
        return calibrated_loss(scored(trainer.base, recipe, whole, untouched), recipe)
