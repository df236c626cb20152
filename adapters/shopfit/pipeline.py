"""The main job: data -> start -> search -> fit -> hold out -> fuse -> calibrate -> evaluate -> gate -> publish."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from shopfit.adapter.artifacts import FUSION, write_items
from shopfit.adapter.bundle import Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.items import CATALOG, HISTORY
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.adapter.stack import rank_note
from shopfit.adapter.weight_files import form_note
from shopfit.base.embed import LateEmbedder
from shopfit.evaluation import Report, card
from shopfit.evaluation.calibration import calibrate
from shopfit.evaluation.report import CARD
from shopfit.merchant.examples import Example, Fields
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.pretext import pairs_of_catalog
from shopfit.merchant.search import Embed, direction
from shopfit.methods import METHODS
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.registry.temp_folders import sweep
from shopfit.reports import report_on
from shopfit.settings import Settings
from shopfit.tasks import task_of
from shopfit.tune.bundle_writer import save, staging
from shopfit.tune.folds import HeldOut, predictions_of, with_enough_examples
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.rewriting import ready_to_augment
from shopfit.tune.run_context import RunContext, TrainedRun, prepare
from shopfit.tune.score_fusion import as_served, fit_fusion
from shopfit.tune.search import check_search, search
from shopfit.tune.self_training import self_train
from shopfit.tune.study import STUDY
from shopfit.tune.trainer import Trainer, TrainingCallback, Tuned, make_accelerator
from shopfit.warm_start.donors import find_start
from shopfit.warm_start.selection import Choice

if TYPE_CHECKING:
    from accelerate import Accelerator


_VECTOR_TEXTS = 256


@dataclass(frozen=True, slots=True)
class Onboarded:
    """The outcome of `onboard`.

    Args:
        version: in the registry.
        report: what it reached, with the gate's verdict.
        bundle: its files, on local disk.
        asked: fields of its first test example.
    """

    version: Version
    report: Report
    bundle: Bundle
    asked: Fields


def onboard(
    merchant: Merchant,
    recipe: Recipe,
    *,
    settings: Settings,
    actor: str,
    trials: int | None = None,
    reporter: Reporter = silent,
    callback: TrainingCallback | None = None,
) -> Onboarded | None:
    """Make an adapter for a merchant, evaluate it, and register it.

    @production names it if the gate lets it pass, @candidate if it is better but that is not proven, and no alias if it
    is refused.

    Under Accelerate's launcher every process takes part in training; the first one does the rest.

    Args:
        merchant: whose it will be.
        recipe: what to make.
        settings: where state lives.
        actor: who asks, for the registry's audit.
        trials: settings to search among, at least 1; None to take the recipe's own.
        reporter: told of every resolved choice.
        callback: sees every training step.

    Returns:
        the outcome; None on every process but the first.

    Raises:
        ShopfitError: with what is wrong; then nothing is registered and nothing is left behind.
    """
    started = time.perf_counter()
    sweep(settings.home)
    with Registry.open(settings) as registry:  # an unreachable registry should fail before the training, not after
        accelerator = make_accelerator(recipe, str(settings.home / "logs"))
        if trials is not None:
            check_search(trials, accelerator.num_processes)
        context = prepare(merchant, recipe, settings=settings, accelerator=accelerator, reporter=reporter)
        with accelerator.main_process_first():  # the others find what the first one wrote
            splits = ready_to_augment(context.splits, recipe, context.merchant, context.base, settings.home, reporter)
        context = replace(context, splits=splits)
        embed = LateEmbedder(settings.home)
        with trained_run(
            context,
            registry,
            settings=settings,
            accelerator=accelerator,
            embed=embed,
            trials=trials,
            reporter=reporter,
            callback=callback,
        ) as run:
            if run is None:
                return None
            reporter("evaluating", f"adapter and base on {len(context.splits.test)} test examples")
            report = report_on(run.context, run.bundle, embed, started, run, reporter)
            metrics = {name: interval.value for name, interval in report.adapter.metrics.items() if interval.defined}
            bundle, manifest = run.bundle, run.bundle.manifest.model_copy(update={"metrics": metrics})
            report.write(bundle.folder)
            (bundle.folder / CARD).write_text(card(report, manifest), encoding="utf-8")
            bundle = seal(bundle.folder, manifest)
            refused = report.verdict.reason if report.verdict.refused else None
            published = registry.publish(bundle, refused=refused, promote=report.verdict.promote, actor=actor)
            reporter("registered", published.name)
        return Onboarded(
            published, report, registry.fetch(published, settings.cache), asked=context.splits.test[0].fields
        )


@contextmanager
def trained_run(
    context: RunContext,
    registry: Registry,
    *,
    settings: Settings,
    accelerator: "Accelerator",
    embed: Embed,
    trials: int | None = None,
    reporter: Reporter = silent,
    callback: TrainingCallback | None = None,
) -> Iterator[TrainedRun | None]:
    """An adapter: its start found, its settings searched if asked, tuned, fused and calibrated. Nothing is registered.

    Args:
        context: the run's inputs, from `prepare`.
        registry: where others' adapters are, to start from.
        settings: where state lives.
        accelerator: from `make_accelerator`.
        embed: turns texts into vectors.
        trials: settings to search among; None to take the recipe's own.
        reporter: told of every resolved choice.
        callback: sees every training step.

    Yields:
        the adapter, whose files are there until the end of the `with`; None on every process but the first.

    Raises:
        ShopfitError: with what is wrong.
    """
    recipe, merchant = context.recipe, context.merchant.name
    choice = find_start(
        registry,
        context.base,
        recipe,
        merchant,
        context.training_set,
        vector=lambda: _vector(context, embed),
        pairs=_pairs(context),
        keep=trials is None and not context.splits.pretext and not recipe.tune.self_training.rounds,
        accelerator=accelerator,
        reporter=reporter,
    )
    study = None
    if trials is not None:
        found = search(
            context.base,
            recipe,
            context.training_set,
            choice.start,
            trials,
            merchant=merchant,
            data_digest=context.splits.digest,
            home=settings.home,
            accelerator=accelerator,
            reporter=reporter,
        )
        context = replace(context, prompter=context.prompter.under(found.recipe))
        choice, study = replace(choice, start=found.start), found.study
    self_trained = self_train(
        context.base,
        context.recipe,
        context.training_set,
        context.unlabeled,
        start=choice.start,
        accelerator=accelerator,
        reporter=reporter,
    )
    context = replace(context, self_trained=self_trained)
    as_compared = study is None and not self_trained.pseudo  # then the starts were trained as the adapter will be
    parts = list(choice.held_out) if as_compared else []
    parts = parts or _held_out(context, choice.start, accelerator, reporter)
    tuned = _tune(context, choice.start, accelerator, reporter, callback)
    if not accelerator.is_main_process:
        tuned.adapter.detach()
        yield None
        return
    tuned.adapter.check()
    with staging(settings.home) as staged:
        parts = parts or [(context.training_set, held_out) for held_out in tuned.held_out]
        blend, blend_losses = _fuse(context, parts, embed)
        calibration = _calibrate(context, parts, blend, embed)
        manifest = _save(context, tuned, staged, choice, embed, accelerator.num_processes, calibration)
        if blend is not None:
            (staged / FUSION).write_text(blend.model_dump_json(indent=2) + "\n", encoding="utf-8")
            reporter("blend", ", ".join(f"{name} {weight:.2f}" for name, weight in blend.weights.items()))
        if study is not None:
            (staged / STUDY).write_text(study.to_json(), encoding="utf-8")
        cross_validated = parts if len(parts) > 1 else []
        yield TrainedRun(context, tuned, seal(staged, manifest), choice.losses, blend_losses, study, cross_validated)


def _pairs(context: RunContext) -> list[Example]:
    """Pairs from the catalog that an encoder may be trained on before the examples."""
    recipe, splits, prompter = context.recipe, context.splits, context.prompter
    if not recipe.spec.items or not context.base.scorer.compares_texts or recipe.start != "auto" or splits.pretext:
        return []
    return pairs_of_catalog(recipe, prompter.catalog, splits.test, lambda example: prompter.text(example.fields))


def _vector(context: RunContext, embed: Embed) -> list[float]:
    """The direction that the merchant's training texts have in the encoder's space, of length 1; empty without any."""
    texts = [context.prompter.text(example.fields) for example in context.seen[:_VECTOR_TEXTS]]
    if not texts:
        return []
    return [round(float(number), 6) for number in direction(embed(texts))]


def _tune(
    context: RunContext, start: Start, accelerator: "Accelerator", reporter: Reporter, callback: TrainingCallback | None
) -> Tuned:
    recipe, splits = context.recipe, context.splits
    adapter, settings = recipe.adapter, recipe.tune
    notes = rank_note(adapter) + form_note(adapter)
    reporter("adapter", f"{adapter.method}, {METHODS[adapter.method].size_in_words(adapter)}{notes}")
    processes = "" if accelerator.num_processes == 1 else f", {accelerator.num_processes} processes"
    plan = f"up to {settings.epochs} epochs in batches of {settings.batch_size}, seed {settings.seed}{processes}"
    fixed = "" if splits.valid else "; too few examples to stop early, so the schedule is fixed"
    reporter("tuning", "no step: the start stays as it is" if start.kept else plan + fixed)
    tuned = Trainer(context.base, accelerator, callback).fit(context.training_set, recipe, start=start)
    reporter(
        "tuned",
        f"{tuned.steps} steps in {tuned.seconds:.0f} s, weights of epoch {tuned.best_epoch}"
        + (f", {tuned.interpolation:.0%} of the way kept" if tuned.interpolation < 1 else "")
        + (", stopped early" if tuned.stopped_early else ""),
    )
    return tuned


def _held_out(context: RunContext, start: Start, accelerator: "Accelerator", reporter: Reporter) -> list[HeldOut]:
    """Cross-validated answers to fit calibration and fusion to, where too few examples can be held out."""
    recipe = context.recipe
    if recipe.spec.written or (recipe.spec.items and not recipe.blend):
        return []
    parts = context.parts
    if len(parts) < 2:
        return []
    reporter("folds", f"{len(parts)} trainings on parts of the examples, to learn how far to trust the adapter")
    return predictions_of(context.base, recipe, parts, start, accelerator)


def _save(
    context: RunContext,
    tuned: Tuned,
    folder: Path,
    choice: Choice,
    embed: Embed,
    processes: int,
    calibration: dict[str, float],
) -> Manifest:
    """Write the adapter and what it needs to answer; the report follows once it has been evaluated."""
    recipe, splits = context.recipe, context.splits
    write_items(folder / CATALOG, context.prompter.catalog)
    if recipe.data.history_catalog:
        write_items(folder / HISTORY, context.prompter.history)
    share = context.merchant.share
    return save(
        tuned,
        context.base,
        recipe,
        folder,
        merchant=context.merchant.name,
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
        vector=_vector(context, embed) if share else [],
        calibration=calibration,
        self_training=list(context.self_trained.rounds),
    )


def _fuse(context: RunContext, parts: Sequence[HeldOut], embed: Embed) -> tuple[ScoreFusion | None, dict[str, float]]:
    """Score fusion (the recipe's `blend`), fitted to the adapter's answers to held-out examples."""
    recipe = context.recipe
    if not recipe.blend or task_of(recipe.task).fusion is None:
        return None, {}
    return fit_fusion(recipe, context.training_set, parts, embed)


def _calibrate(
    context: RunContext, parts: Sequence[HeldOut], blend: ScoreFusion | None, embed: Embed
) -> dict[str, float]:
    recipe, blended = context.recipe, None
    if blend is not None and recipe.serve.precision is not None:
        blended = as_served(recipe, parts, blend, embed)
    one = len(parts) == 1  # then these are the answers of the adapter that will be served
    return calibrate(recipe, [said if one else with_enough_examples(part, said) for part, said in parts], blended)


def _ids(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]
