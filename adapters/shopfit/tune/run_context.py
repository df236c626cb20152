"""A run: its inputs, and the adapter that came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shopfit.adapter.bundle import Bundle
from shopfit.base.by_language import cannot_read, settled
from shopfit.base.description import kind_by_files
from shopfit.base.load import Base, load_base
from shopfit.base.locate import check_encoder_name, whole_name
from shopfit.base.prepack import count_weights
from shopfit.base.prompt import Prompter
from shopfit.base.sharding import release
from shopfit.errors import BaseError, RecipeError
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.splits import Splits
from shopfit.methods.limits import check_limits
from shopfit.recipe.schema import AUTO, Recipe, Serve
from shopfit.settings import Settings
from shopfit.tune.base_selection import choose_base
from shopfit.tune.checkpoints import Checkpoints
from shopfit.tune.folds import HeldOut, folds
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.processes import wait
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.self_training import SelfTrained
from shopfit.tune.sharding import shards
from shopfit.tune.study import Study
from shopfit.tune.trainer import Trainer, Tuned
from shopfit.tune.training_dataset import TrainingSet

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True)
class RunContext:
    """The inputs of a run, read and checked before anything is trained.

    Args:
        merchant: whose adapter it will be.
        trainer: what its adapters are trained by.
        prompter: for the recipe and this merchant.
        splits: the examples.
        unlabeled: rows for self-training.
        self_trained: pseudo-labels of self-training, made from these rows.
    """

    merchant: Merchant
    trainer: Trainer
    prompter: Prompter
    splits: Splits
    unlabeled: Sequence[Example] = ()
    self_trained: SelfTrained = field(default_factory=SelfTrained)

    @property
    def base(self) -> Base:
        """That the adapter will be on."""
        return self.trainer.base

    @property
    def recipe(self) -> Recipe:
        """How the adapter is made, and how it is asked."""
        return self.prompter.recipe

    @property
    def training_set(self) -> TrainingSet:
        """What there is to learn from: the examples, and beside them pretext pairs and pseudo-labels."""
        splits = self.splits
        beside = [*splits.pretext, *self.self_trained.pseudo]
        return TrainingSet(splits.train, splits.valid, splits.labels, self.prompter, beside)

    @property
    def parts(self) -> Sequence[TrainingSet]:
        """The same to cross-validate on: each part trains as the adapter will, without what it holds out."""
        return self.self_trained.parts or folds(self.recipe, self.training_set)

    @property
    def cross_validated(self) -> Sequence[TrainingSet]:
        """What to cross-validate on, to fit calibration and fusion to, where too few examples can be held out."""
        recipe = self.recipe
        if recipe.spec.written or (recipe.spec.items and not recipe.blend):
            return []
        parts = self.parts
        return parts if len(parts) > 1 else []

    @property
    def seen(self) -> list[Example]:
        """Every example of the merchant's that it may learn from: also what baselines and priors are fitted on."""
        return [*self.splits.train, *self.splits.valid]


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """An adapter that can be asked, and how it came about.

    Args:
        context: with the recipe that it was made with in the end.
        tuned: its training.
        bundle: its files, in a folder that is gone afterwards.
        start_losses: of every start that was compared.
        blend_losses: of the blend and its parts.
        study: of the search, if there was one.
        cross_validated: answers of folds, by part; none with a single validation set, which also chose the epoch.
    """

    context: RunContext
    tuned: Tuned
    bundle: Bundle
    start_losses: Mapping[str, float]
    blend_losses: Mapping[str, float]
    study: Study | None
    cross_validated: Sequence[HeldOut] = ()


def prepare(
    merchant: Merchant,
    recipe: Recipe,
    *,
    settings: Settings,
    accelerator: "Accelerator",
    base: Base | None = None,
    checkpoints: Checkpoints | None = None,
    reporter: Reporter = silent,
) -> RunContext:
    """Read and check the merchant's data, and load the base. Bad data is found before the base is loaded.

    With `base: auto` the bases compete on the examples, and the recipe names the winner from then on; with
    `auto-language` the merchant's language decides.

    Args:
        merchant: whose data.
        recipe: that reads it.
        settings: where bases lie.
        accelerator: the run's, from `make_accelerator`: its device is the base's, and its processes shard the base if
            they run FSDP.
        base: if it is loaded already.
        checkpoints: of the run, which its trainings go on from and are kept in.
        reporter: told what was found.

    Raises:
        DataError: with every bad row.
        BaseError: if the base is not there.
        RecipeError: if the recipe's prompt is longer than the base can read.
    """
    recipe = settled(recipe, merchant.language)
    recipe = recipe.model_copy(update={"serve": _with_encoder(recipe, settings)})
    dataset = MerchantDataset.read(merchant, recipe).with_unlabeled()
    dataset.tell(reporter)
    if base is None:
        sharded = shards(accelerator)

        def load(name: str) -> Base:
            named = recipe.model_copy(update={"base": name})
            return base_of(named, settings, str(accelerator.device), sharded=sharded)

        if sharded and recipe.base == AUTO:
            raise RecipeError(
                "base is auto, which loads one base after another whole, and this run shards its base",
                next_step="name the base: `--set base=…`",
            )
        auto = recipe.base == AUTO
        base = choose_base(dataset, load, accelerator=accelerator, reporter=reporter) if auto else load(recipe.base)
    if recipe.base != base.name:  # `auto`, or a folder by its place beside the working folder
        recipe = recipe.model_copy(update={"base": base.name})
        dataset = replace(dataset, recipe=recipe)
    reporter(
        "base",
        f"{base.name}: {count_weights(base.model) / 1e6:.0f}M parameters in {base.dtype} on {base.device}, "
        f"quantization {base.quantization}, fingerprint {base.fingerprint[:12]}",
    )
    if warning := cannot_read(base.name, base.languages, merchant.language):
        reporter("language", warning)
    trainer = Trainer(base, accelerator, checkpoints=checkpoints)
    return RunContext(merchant, trainer, dataset.prompter(base), dataset.splits, dataset.unlabeled)


def _with_encoder(recipe: Recipe, settings: Settings) -> Serve:
    """The section `serve` with an encoder that there is, by a name that means the same in any working folder.

    Raises:
        BaseError: if it is none, as far as this machine knows it.
    """
    name = recipe.serve.encoder
    check_encoder_name(name)
    if Path(name).expanduser().is_dir() and (kind := kind_by_files(name, settings.home)) != "encoder":
        raise BaseError(
            f"serve.encoder is {name!r:.200}, of the kind {kind} (allowed: encoder)", next_step="name an encoder"
        )
    return recipe.serve.model_copy(update={"encoder": whole_name(name)})


def with_whole_base(context: RunContext, settings: Settings) -> RunContext:
    """The same run on a whole base in place of a sharded one, to measure with: every process lets go of its part, and
    the first one spreads the base over the GPUs that it sees, or puts it on one if it is quantized.
    """
    trainer = context.trainer
    release(trainer.base.model)
    wait(trainer.accelerator)
    if not trainer.accelerator.is_main_process:
        return context
    recipe = context.recipe
    base = load_base(
        recipe.base,
        settings.home,
        quantization=recipe.quantization,
        dtype=recipe.dtype,
        device_map="auto" if recipe.quantization == "none" else None,
    )
    return replace(context, trainer=Trainer(base, trainer.accelerator))


def base_of(recipe: Recipe, settings: Settings, device: str | None, *, sharded: bool = False) -> Base:
    """Load the base that a recipe names.

    Args:
        recipe: names it, its quantization and its dtype.
        settings: where bases lie.
        device: of this process; the first GPU, or the CPU, by default.
        sharded: whether the run's processes share its weights out.

    Raises:
        BaseError: if it is not there.
        RecipeError: if it does not work with the recipe's method, which is said before anything is loaded, or if the
            recipe's prompt is longer than it can read.
    """
    kind = kind_by_files(recipe.base, settings.home)
    check_limits(recipe.adapter, recipe.quantization, kind, recipe.base, sharded=sharded)
    base = load_base(
        recipe.base,
        settings.home,
        quantization=recipe.quantization,
        device=device,
        dtype=recipe.dtype,
        sharded=sharded,
    )
    if recipe.prompt.max_tokens > base.max_length:
        raise RecipeError(
            f"prompt.max_tokens is {recipe.prompt.max_tokens}, but the base {base.name} reads {base.max_length}",
            next_step=f"set prompt.max_tokens to {base.max_length // 2} or less",
        )
    return base
