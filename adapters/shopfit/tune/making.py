"""A merchant's adapter in the making: its start found, settings searched if asked, tuned, calibrated and blended."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shopfit.adapter.artifacts import CATALOG, FUSION, HISTORY, write_items
from shopfit.adapter.bundle import Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.adapter.stack import rank_note
from shopfit.adapter.start import Start
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.evaluation.calibration import calibrate
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.pretext import pairs_of_catalog
from shopfit.merchant.search import Embed, direction
from shopfit.merchant.splits import Splits
from shopfit.methods import METHODS
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tune.folds import HeldOut, folds, predictions_of, well_taught
from shopfit.tune.lessons import Material
from shopfit.tune.loop import Tuned, Watch, tune
from shopfit.tune.neighbours import find_start
from shopfit.tune.saving import save, staging
from shopfit.tune.score_fusion import as_served, fit_fusion
from shopfit.tune.search import search
from shopfit.tune.self_training import SelfTrained, self_train
from shopfit.tune.starts import Choice
from shopfit.tune.study import STUDY, Study

if TYPE_CHECKING:
    from accelerate import Accelerator

_VECTOR_TEXTS = 256


class Say(Protocol):
    """Announces one resolved choice or finished stage."""

    def __call__(self, what: str, detail: str) -> None:
        """`what` in a word or two, `detail` in a line."""


def silent(what: str, detail: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a run stands on before anything is trained.

    Args:
        merchant: whose adapter it will be.
        base: loaded.
        prompter: for the recipe and this merchant.
        splits: the examples.
        unlabeled: rows for self-training.
        taught: what of them the adapter's own answers made examples of.
    """

    merchant: Merchant
    base: Base
    prompter: Prompter
    splits: Splits
    unlabeled: Sequence[Example] = ()
    taught: SelfTrained = field(default_factory=SelfTrained)

    @property
    def recipe(self) -> Recipe:
        """How the adapter is made, and how it is asked."""
        return self.prompter.recipe

    @property
    def material(self) -> Material:
        """What there is to learn from: the examples, and beside them what is made without anybody's label."""
        splits = self.splits
        beside = [*splits.pretext, *self.taught.pseudo]
        return Material(splits.train, splits.valid, splits.labels, self.prompter, beside)

    @property
    def parts(self) -> Sequence[Material]:
        """The same to cross-validate on: each part trains as the adapter will, without what it holds out."""
        return self.taught.parts or folds(self.recipe, self.material)

    @property
    def seen(self) -> list[Example]:
        """Every example of the merchant's that it may learn from: also what baselines and priors are fitted on."""
        return [*self.splits.train, *self.splits.valid]


@dataclass(frozen=True, slots=True)
class Made:
    """An adapter that can be asked, and how it came about.

    Args:
        ground: with the recipe that it was made with in the end.
        tuned: its training.
        bundle: its files, in a folder that is gone afterwards.
        start_losses: of every start that was compared.
        blend_losses: of the blend and its parts.
        study: of the search, if there was one.
        crossed: answers from cross-validation, by part; none where one validation set was held out, which also chose
            the epoch.
    """

    ground: Ground
    tuned: Tuned
    bundle: Bundle
    start_losses: Mapping[str, float]
    blend_losses: Mapping[str, float]
    study: Study | None
    crossed: Sequence[HeldOut] = ()


@contextmanager
def making(
    ground: Ground,
    registry: Registry,
    *,
    settings: Settings,
    accelerator: "Accelerator",
    embed: Embed,
    trials: int | None = None,
    say: Say = silent,
    watch: Watch | None = None,
) -> Iterator[Made | None]:
    """An adapter: its start found, its settings searched if asked, tuned and blended. Nothing is registered.

    Args:
        ground: what it stands on.
        registry: where others' adapters are, to start from.
        settings: where state lives.
        accelerator: from `make_accelerator`.
        embed: turns texts into vectors.
        trials: settings to search among; None to take the recipe's own.
        say: hears every resolved choice.
        watch: sees every training step.

    Yields:
        the adapter, whose files are there until the end of the `with`; None on every process but the first.

    Raises:
        ShopfitError: with what is wrong.
    """
    recipe, merchant = ground.recipe, ground.merchant.name
    choice = find_start(
        registry,
        ground.base,
        recipe,
        merchant,
        ground.material,
        vector=lambda: _vector(ground, embed),
        pairs=_pairs(ground),
        keep=trials is None and not ground.splits.pretext and not recipe.tune.self_training.rounds,
        accelerator=accelerator,
        say=say,
    )
    study = None
    if trials is not None:
        found = search(
            ground.base,
            recipe,
            ground.material,
            choice.start,
            trials,
            merchant=merchant,
            data_digest=ground.splits.digest,
            home=settings.home,
            accelerator=accelerator,
            say=say,
        )
        ground = replace(ground, prompter=ground.prompter.under(found.recipe))
        choice, study = replace(choice, start=found.start), found.study
    taught = self_train(
        ground.base,
        ground.recipe,
        ground.material,
        ground.unlabeled,
        start=choice.start,
        accelerator=accelerator,
        say=say,
    )
    ground = replace(ground, taught=taught)
    as_compared = study is None and not taught.pseudo  # then the starts were trained as the adapter will be
    parts = list(choice.held_out) if as_compared else []
    parts = parts or _held_out(ground, choice.start, accelerator, say)
    tuned = _tune(ground, choice.start, accelerator, say, watch)
    if not accelerator.is_main_process:
        tuned.adapter.detach()
        yield None
        return
    tuned.adapter.check()
    with staging(settings.home) as staged:
        parts = parts or [(ground.material, held_out) for held_out in tuned.held_out]
        blend, blend_losses = _blend(ground, parts, embed)
        calibration = _calibrate(ground, parts, blend, embed)
        manifest = _save(ground, tuned, staged, choice, embed, accelerator.num_processes, calibration)
        if blend is not None:
            (staged / FUSION).write_text(blend.model_dump_json(indent=2) + "\n", encoding="utf-8")
            say("blend", ", ".join(f"{name} {weight:.2f}" for name, weight in blend.weights.items()))
        if study is not None:
            (staged / STUDY).write_text(study.to_json(), encoding="utf-8")
        crossed = parts if len(parts) > 1 else []
        yield Made(ground, tuned, seal(staged, manifest), choice.losses, blend_losses, study, crossed)


def _pairs(ground: Ground) -> list[Example]:
    """What an encoder may read of the catalog before the examples."""
    recipe, splits, prompter = ground.recipe, ground.splits, ground.prompter
    if not recipe.spec.items or not ground.base.scorer.compares_texts or recipe.start != "auto" or splits.pretext:
        return []
    return pairs_of_catalog(recipe, prompter.catalog, splits.test, lambda example: prompter.text(example.fields))


def _vector(ground: Ground, embed: Embed) -> list[float]:
    """The direction that the merchant's training texts have in the encoder's space, of length 1; empty without any."""
    texts = [ground.prompter.text(example.fields) for example in ground.seen[:_VECTOR_TEXTS]]
    if not texts:
        return []
    return [round(float(number), 6) for number in direction(embed(texts))]


def _tune(ground: Ground, start: Start, accelerator: "Accelerator", say: Say, watch: Watch | None) -> Tuned:
    recipe, splits = ground.recipe, ground.splits
    adapter, settings = recipe.adapter, recipe.tune
    say("adapter", f"{adapter.method}, {METHODS[adapter.method].size_in_words(adapter)}{rank_note(adapter)}")
    processes = "" if accelerator.num_processes == 1 else f", {accelerator.num_processes} processes"
    plan = f"up to {settings.epochs} epochs in batches of {settings.batch_size}, seed {settings.seed}{processes}"
    fixed = "" if splits.valid else "; too few examples to stop early, so the schedule is fixed"
    say("tuning", "no step: the start stays as it is" if start.kept else plan + fixed)
    tuned = tune(
        ground.base,
        recipe,
        ground.material.lessons,
        splits.valid,
        splits.labels,
        ground.prompter,
        start=start,
        accelerator=accelerator,
        watch=watch,
    )
    say(
        "tuned",
        f"{tuned.steps} steps in {tuned.seconds:.0f} s, weights of epoch {tuned.best_epoch}"
        + (f", {tuned.interpolation:.0%} of the way kept" if tuned.interpolation < 1 else "")
        + (", stopped early" if tuned.stopped_early else ""),
    )
    return tuned


def _held_out(ground: Ground, start: Start, accelerator: "Accelerator", say: Say) -> list[HeldOut]:
    """Answers to learn calibration and blend from, where there are too few examples to hold enough of them out."""
    recipe = ground.recipe
    if recipe.spec.written or (recipe.spec.items and not recipe.blend):
        return []
    parts = ground.parts
    if len(parts) < 2:
        return []
    say("folds", f"{len(parts)} trainings on parts of the examples, to learn how far to trust the adapter")
    return predictions_of(ground.base, recipe, parts, start, accelerator)


def _save(
    ground: Ground,
    tuned: Tuned,
    folder: Path,
    choice: Choice,
    embed: Embed,
    processes: int,
    calibration: dict[str, float],
) -> Manifest:
    """Write the adapter and what it needs to answer; the report follows once it has been evaluated."""
    recipe, splits = ground.recipe, ground.splits
    write_items(folder / CATALOG, ground.prompter.catalog)
    if recipe.data.history_catalog:
        write_items(folder / HISTORY, ground.prompter.history)
    share = ground.merchant.share
    return save(
        tuned,
        ground.base,
        recipe,
        folder,
        merchant=ground.merchant.name,
        labels=splits.labels,
        data=DataIdentity(
            digest=splits.digest,
            train=_ids(splits.train),
            valid=_ids(splits.valid),
            test=_ids(splits.test),
            pretext=len(splits.pretext),
        ),
        share=share,
        processes=processes,
        start=choice.start.name,
        vector=_vector(ground, embed) if share else [],
        calibration=calibration,
        self_training=list(ground.taught.rounds),
    )


def _blend(ground: Ground, parts: Sequence[HeldOut], embed: Embed) -> tuple[ScoreFusion | None, dict[str, float]]:
    """What else the adapter's score is to be made of, learned from its answers to held-out examples."""
    recipe = ground.recipe
    if not recipe.blend or recipe.spec.written:
        return None, {}
    return fit_fusion(recipe, ground.material, parts, embed)


def _calibrate(ground: Ground, parts: Sequence[HeldOut], blend: ScoreFusion | None, embed: Embed) -> dict[str, float]:
    recipe, blended = ground.recipe, None
    if blend is not None and recipe.serve.precision is not None:
        blended = as_served(recipe, parts, blend, embed)
    one = len(parts) == 1  # then the adapter that will be served was asked
    return calibrate(recipe, [said if one else well_taught(part, said) for part, said in parts], blended)


def _ids(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]
