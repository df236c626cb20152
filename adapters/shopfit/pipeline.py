"""An adapter in the making: start -> search -> fit -> hold out -> fuse -> calibrate. `onboarding` publishes it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shopfit.adapter.artifacts import FUSION, write_items
from shopfit.adapter.bundle import DataIdentity, Manifest, seal
from shopfit.adapter.initial_weights import Start, recipe_for
from shopfit.adapter.items import CATALOG, HISTORY
from shopfit.adapter.score_fusion import ScoreFusion
from shopfit.adapter.stack import rank_note
from shopfit.adapter.weight_files import form_note
from shopfit.base.by_language import encoder_of
from shopfit.base.merchant_search import encoder_fingerprint
from shopfit.errors import RecipeError
from shopfit.evaluation.calibration import calibrate
from shopfit.merchant.examples import Example
from shopfit.merchant.pretext import pairs_of_catalog
from shopfit.merchant.search import Embed, direction
from shopfit.methods import METHODS
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tasks import task_of
from shopfit.tune.bundle_writer import save, staging
from shopfit.tune.folds import HeldOut, predictions_of, with_enough_examples
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.run_context import RunContext, TrainedRun
from shopfit.tune.score_fusion import as_served, fit_fusion
from shopfit.tune.search import search
from shopfit.tune.self_training import self_train
from shopfit.tune.study import STUDY
from shopfit.tune.trainer import Tuned
from shopfit.tune.training_callback import TrainingCallback
from shopfit.warm_start.donors import find_start
from shopfit.warm_start.selection import Choice

_VECTOR_TEXTS = 256


@contextmanager
def trained_run(
    context: RunContext,
    registry: Registry,
    *,
    settings: Settings,
    embed: Embed,
    trials: int | None = None,
    optional: bool = False,
    instant: str = "",
    reporter: Reporter = silent,
    callback: TrainingCallback | None = None,
) -> Iterator[TrainedRun | None]:
    """An adapter: its start found, its settings searched if asked, tuned, fused and calibrated. Nothing is registered.

    Args:
        context: the run's inputs, from `prepare`.
        registry: where others' adapters are, to start from.
        settings: where state lives.
        embed: turns texts into vectors.
        trials: settings to search among; None to take the recipe's own.
        optional: whether no adapter is made where without training it would answer as the bare base.
        instant: name of the start that the instant version is, if there is one: where that is best as it is, no other
            adapter is made.
        reporter: told of every resolved choice.
        callback: sees every training step.

    Yields:
        the adapter, whose files are there until the end of the `with`; None on every process but the first, and where
        none was made.

    Raises:
        ShopfitError: with what is wrong.
    """
    recipe, merchant = context.recipe, context.merchant.name
    choice = find_start(
        registry,
        context.trainer,
        recipe,
        merchant,
        context.training_set,
        vector=lambda: _vector(context, embed),
        encoder=lambda: encoder_fingerprint(embed),
        language=context.merchant.language,
        pairs=_pairs(context),
        keep=trials is None and not context.splits.pretext and not recipe.tune.self_training.rounds,
        reporter=reporter,
    )
    if recipe.tune.steps == 0 and not _says_more_than_the_base(context, choice.start):
        why = f"without training the base {context.base.name} answers as if it had seen no example"
        if not optional:
            raise RecipeError(
                f"{recipe.name} takes no step of training, and {why}",
                next_step="leave out `--instant` or tune.steps, or take an encoder as the base, such as minilm-l6",
            )
        reporter("instant", f"no version: {why}")
        yield None
        return
    context = replace(context, prompter=context.prompter.under(recipe_for(recipe, choice.start)))
    if choice.start.kept and choice.start.name == instant:
        reporter("tuning", f"{instant} is best as it is: no training makes the instant version better")
        yield None
        return
    study = None
    if trials is not None:
        found = search(
            context.trainer,
            recipe,
            context.training_set,
            choice.start,
            trials,
            merchant=merchant,
            data_digest=context.splits.digest,
            home=settings.home,
            reporter=reporter,
        )
        context = replace(context, prompter=context.prompter.under(found.recipe))
        choice, study = replace(choice, start=found.start), found.study
    self_trained = self_train(
        context.trainer,
        context.recipe,
        context.training_set,
        context.unlabeled,
        start=choice.start,
        reporter=reporter,
    )
    context = replace(context, self_trained=self_trained)
    as_compared = study is None and not self_trained.pseudo  # then the starts were trained as the adapter will be
    parts = list(choice.held_out) if as_compared else []
    folds = [] if parts else context.cross_validated
    if folds:
        reporter("folds", f"{len(folds)} trainings on parts of the examples, to learn how far to trust the adapter")
    recipe, trainer = context.recipe, context.trainer
    answers = predictions_of(trainer, recipe, folds, choice.start, reporter)
    training = trainer.queue(context.training_set, recipe, choice.start, callback)
    parts = parts or answers()
    _announce(context, choice.start, reporter)
    with training as tuned:
        if not choice.start.kept:
            _tell(tuned, reporter)
        if not trainer.accelerator.is_main_process:
            yield None
            return
        tuned.adapter.check()
        with staging(settings.home) as staged:
            parts = parts or [(context.training_set, held_out) for held_out in tuned.held_out]
            blend, blend_losses = _fuse(context, parts, embed)
            calibration = _calibrate(context, parts, blend, embed)
            asked = context.merchant.share or (blend is not None and blend.encoded)
            encoder = encoder_fingerprint(embed) if asked else ""
            manifest = _save(context, tuned, staged, choice, embed, encoder, calibration)
            if blend is not None:
                (staged / FUSION).write_text(blend.model_dump_json(indent=2) + "\n", encoding="utf-8")
                reporter("blend", ", ".join(f"{name} {weight:.2f}" for name, weight in blend.weights.items()))
            if study is not None:
                (staged / STUDY).write_text(study.to_json(), encoding="utf-8")
            cross_validated = parts if len(parts) > 1 else []
            bundle = seal(staged, manifest)
            yield TrainedRun(context, tuned, bundle, choice.losses, blend_losses, study, cross_validated)


def _says_more_than_the_base(context: RunContext, start: Start) -> bool:
    """Whether an adapter that is not trained can differ from the bare base: by a start, a head, or score fusion."""
    recipe, scorer = context.recipe, context.base.scorer
    fused = recipe.blend and task_of(recipe.task).fusion is not None
    return not start.scratch or bool(start.offsets) or bool(fused) or (scorer.compares_texts and recipe.spec.closed)


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


def _announce(context: RunContext, start: Start, reporter: Reporter) -> None:
    """Say how the adapter is trained."""
    adapter, settings = context.recipe.adapter, context.recipe.tune
    count = context.trainer.accelerator.num_processes
    notes = rank_note(adapter) + form_note(adapter)
    reporter("adapter", f"{adapter.method}, {METHODS[adapter.method].size_in_words(adapter)}{notes}")
    processes = "" if count == 1 else f", {count} processes"
    plan = f"up to {settings.epochs} epochs in batches of {settings.batch_size}, seed {settings.seed}{processes}"
    fixed = "" if context.splits.valid else "; too few examples to stop early, so the schedule is fixed"
    reporter("tuning", "no step: the start stays as it is" if start.kept else plan + fixed)


def _tell(tuned: Tuned, reporter: Reporter) -> None:
    """Say what came of the training."""
    reporter(
        "tuned",
        f"{tuned.steps} steps in {tuned.seconds:.0f} s, weights of epoch {tuned.best_epoch}"
        + (f", {tuned.interpolation:.0%} of the way kept" if tuned.interpolation < 1 else "")
        + (", stopped early" if tuned.stopped_early else ""),
    )


def _save(
    context: RunContext,
    tuned: Tuned,
    folder: Path,
    choice: Choice,
    embed: Embed,
    encoder: str,
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
        processes=context.trainer.accelerator.num_processes,
        start=choice.start.name,
        vector=_vector(context, embed) if share else [],
        encoder=encoder,
        calibration=calibration,
        self_training=list(context.self_trained.rounds),
    )


def _fuse(context: RunContext, parts: Sequence[HeldOut], embed: Embed) -> tuple[ScoreFusion | None, dict[str, float]]:
    """Score fusion (the recipe's `blend`), fitted to the adapter's answers to held-out examples."""
    recipe = context.recipe
    if not recipe.blend or task_of(recipe.task).fusion is None:
        return None, {}
    untrained = recipe.tune.steps == 0 and recipe.spec.single_label
    if untrained and context.base.name == encoder_of(recipe):  # its head knows means of these vectors, and the words
        return fit_fusion(recipe, context.training_set, parts, None)
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
