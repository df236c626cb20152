"""The main job: the versions of one run of `shopfit adapter`, each made, measured, gated and published.

The instant version comes first: the best of what needs no training serves while the trained one is made, which must
then be better than it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from shopfit.adapter.bundle import Bundle, seal
from shopfit.base.by_language import encoder_of
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
from shopfit.errors import UnknownReference
from shopfit.evaluation import Report, card
from shopfit.evaluation.assess import Answers
from shopfit.evaluation.report import CARD, REPORT
from shopfit.evaluation.summary import summary
from shopfit.merchant.examples import Fields
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.search import Embed
from shopfit.pipeline import trained_run
from shopfit.recipe.loading import dump_recipe
from shopfit.recipe.schema import Recipe, SelfTraining
from shopfit.registry import Registry, Version
from shopfit.registry.temp_folders import sweep
from shopfit.reports import report_on
from shopfit.settings import Settings, checkpoints
from shopfit.tune.checkpoints import Checkpoints
from shopfit.tune.processes import agreed, first_process_first
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.rewriting import ready_to_augment
from shopfit.tune.run_context import RunContext, prepare, with_whole_base
from shopfit.tune.search import check_search
from shopfit.tune.trainer import make_accelerator
from shopfit.tune.training_callback import TrainingCallback

_INSTANT = "instant"  # the note of its version


@dataclass(frozen=True, slots=True)
class Onboarded:
    """The outcome of `onboard`.

    Args:
        version: in the registry.
        report: what it reached, with the gate's verdict.
        bundle: its files, on local disk.
        asked: fields of its first test example.
        instant: the version that was made before it, without training, if there is one.
    """

    version: Version
    report: Report
    bundle: Bundle
    asked: Fields
    instant: "Onboarded | None" = None


@dataclass(frozen=True, slots=True)
class Job:
    """What the versions of one run are made with.

    Args:
        registry: open.
        settings: where state lives.
        encoder: makes the embedders of search.
        actor: who asks, for the registry's audit.
        reporter: told of every resolved choice.
        checkpoints: that the run keeps, if it does.
        answers: of the systems that its versions are compared with.
        promotes: whether a version may be put into production; else it is a candidate at most.
        erasures: of the merchant, from `Registry.erasures`, before its data was read.
    """

    registry: Registry
    settings: Settings
    encoder: LateEmbedder
    actor: str
    reporter: Reporter
    checkpoints: Checkpoints | None = None
    answers: Answers = field(default_factory=Answers)
    promotes: bool = True
    erasures: Mapping[str, int] = field(default_factory=dict)


def onboard(
    merchant: Merchant,
    recipe: Recipe,
    *,
    settings: Settings,
    actor: str,
    trials: int | None = None,
    instant: bool = False,
    resume: bool = False,
    promotes: bool = True,
    reporter: Reporter = silent,
    callback: TrainingCallback | None = None,
    published: Callable[[Onboarded], None] = lambda _: None,
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
        instant: whether the best of what needs no training is registered first, unless the gate refuses it. What is
            trained must then beat it.
        resume: whether trainings go on from what an earlier run of this kept, which was ended before it was over. What
            comes of it is the same.
        promotes: whether a version that passes the gate is put into production; else it is a candidate.
        reporter: told of every resolved choice.
        callback: sees every training step.
        published: called with the instant version, as soon as it is registered.

    Returns:
        the outcome: the trained version, or the instant one where nothing is better to start from than what it is; None
        on every process but the first.

    Raises:
        ShopfitError: with what is wrong; then nothing is registered but, maybe, the instant version, and nothing is
            left behind but what `resume` goes on from.
    """
    started = time.perf_counter()
    sweep(settings.home)
    with Registry.open(settings) as registry:  # an unreachable registry should fail before the training, not after
        accelerator = make_accelerator(recipe, str(settings.home / "logs"), shards=True)
        if trials is not None:
            check_search(trials, accelerator.num_processes)
        kept, erasures = _kept(merchant, recipe, settings, resume, reporter), registry.erasures([merchant.name])
        context = prepare(
            merchant, recipe, settings=settings, accelerator=accelerator, checkpoints=kept, reporter=reporter
        )
        encoder = LateEmbedder(settings.home)
        job = Job(registry, settings, encoder, actor, reporter, kept, promotes=promotes, erasures=erasures)
        done = make_versions(
            job, context, started, trials=trials, instant=instant, callback=callback, published=published
        )
        if accelerator.is_main_process:
            kept.clear()
        return done


def make_versions(
    job: Job,
    context: RunContext,
    started: float,
    *,
    trials: int | None = None,
    instant: bool = False,
    callback: TrainingCallback | None = None,
    published: Callable[[Onboarded], None] = lambda _: None,
) -> Onboarded | None:
    """The versions of one run; see `onboard`.

    Args:
        job: what they are made with.
        context: the run's inputs.
        started: when the work on it began, by `time.perf_counter`.
        trials: settings to search among.
        instant: whether the best of what needs no training is registered first.
        callback: sees every training step.
        published: called with the instant version.
    """
    recipe, accelerator, reporter = context.recipe, context.trainer.accelerator, job.reporter
    encoder = job.encoder.called(encoder_of(recipe))
    embed = MerchantEmbedder(encoder, context.merchant.name, lambda detail: reporter("search", detail))
    if accelerator.is_main_process:  # the others search nothing
        _read_ahead(context, embed)
    first = None
    if instant and context.base.sharded:
        reporter("instant", "no version: the base is sharded, so all is measured once, at the end")
    elif instant and recipe.tune.steps != 0:
        first = _made_before(job, context)
        if not agreed(accelerator, "" if first is None else first.version.name):
            first = _version(job, _without_training(context), embed, started, only_if_passed=True)
            context.trainer.read_anew()  # a run that is resumed may have left this out
        if first is not None:
            if job.checkpoints is not None:
                job.checkpoints.note(_INSTANT, first.version.name)
            published(first)
    start = agreed(accelerator, "" if first is None else first.bundle.manifest.start)
    started = time.perf_counter() if start else started
    with first_process_first(accelerator):
        splits = ready_to_augment(context.splits, recipe, context.merchant, context.base, job.settings.home, reporter)
    context = replace(context, splits=splits)
    done = _version(job, context, embed, started, trials, callback, start=start, instant=first)
    return first if done is None else done


def _kept(
    merchant: Merchant,
    recipe: Recipe,
    settings: Settings,
    resume: bool,
    reporter: Reporter,
) -> Checkpoints:
    """What is kept of an earlier run, and of this one."""
    found = Checkpoints(checkpoints(settings.home, merchant.name) / recipe.name, resume=resume)
    if resume:
        reporter("resume", "goes on from what was kept" if found.there else "nothing was kept, so this starts anew")
        return found
    if found.there:
        reporter("resume", "an earlier run of this was ended: `--resume` goes on with it, this one starts anew")
    found.forget_notes()
    return found


def _made_before(job: Job, context: RunContext) -> Onboarded | None:
    """The instant version that the run which is resumed registered, if it is of the same data and recipe."""
    noted = "" if job.checkpoints is None else job.checkpoints.notes.get(_INSTANT, "")
    if not noted or not context.trainer.accelerator.is_main_process:
        return None
    try:
        version = job.registry.resolve(noted)
    except UnknownReference:
        return None
    bundle = job.registry.fetch(version, job.settings.cache)
    manifest, asked = bundle.manifest, _without_training(context).recipe
    same = manifest.data.digest == context.splits.digest and context.base.known_by(manifest.base.fingerprint)
    if not same or _settled(manifest.recipe_snapshot) != _settled(dump_recipe(asked)):
        return None
    report = Report.from_json((bundle.folder / REPORT).read_bytes())
    return Onboarded(version, report, bundle, context.splits.test[0].fields)


def _settled(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without what `recipe_for` changes."""
    return {**snapshot, "adapter": None, "tune": {**snapshot["tune"], "lr_ratio": None}}


def _version(
    job: Job,
    context: RunContext,
    embed: Embed,
    started: float,
    trials: int | None = None,
    callback: TrainingCallback | None = None,
    *,
    start: str = "",
    instant: Onboarded | None = None,
    only_if_passed: bool = False,
) -> Onboarded | None:
    """Make, measure and register one version.

    Args:
        job: of the run.
        context: the run's inputs.
        embed: turns texts into vectors.
        started: when the work on it began.
        trials: settings to search among.
        callback: sees every training step.
        start: name of the start that the instant version is, if there is one.
        instant: that version, on the first process.
        only_if_passed: whether one that the gate refuses is not registered.

    Returns:
        None on every process but the first; where training is not worth a version, or the gate refused one that is only
        registered if it passes.
    """
    registry, settings, reporter = job.registry, job.settings, job.reporter
    with trained_run(
        context,
        registry,
        settings=settings,
        embed=embed,
        trials=trials,
        optional=only_if_passed,
        instant=start,
        reporter=reporter,
        callback=callback,
    ) as run:
        whole = with_whole_base(context, settings) if context.base.sharded else context
        if run is None:
            return None
        reporter("evaluating", f"adapter and base on {len(context.splits.test)} test examples")
        before = None if instant is None else instant.bundle
        report = report_on(
            replace(run.context, trainer=whole.trainer),
            run.bundle,
            embed,
            started,
            run,
            reporter,
            before,
            job.answers,
        )
        if only_if_passed and report.verdict.refused:
            reporter("instant", f"no version: {report.verdict.reason}")
            return None
        metrics = {name: interval.value for name, interval in report.adapter.metrics.items() if interval.defined}
        bundle, manifest = run.bundle, run.bundle.manifest.model_copy(update={"metrics": metrics})
        report.write(bundle.folder)
        (bundle.folder / CARD).write_text(card(report, manifest), encoding="utf-8")
        bundle = seal(bundle.folder, manifest)
        refused = report.verdict.reason if report.verdict.refused else None
        published = registry.publish(
            bundle,
            refused=refused,
            promote=report.verdict.promote and job.promotes,
            actor=job.actor,
            summary=summary(report),
            erasures=job.erasures,
        )
        reporter("registered", published.name)
    kept = registry.fetch(published, settings.cache)
    return Onboarded(published, report, kept, context.splits.test[0].fields, instant)


def _read_ahead(context: RunContext, embed: Embed) -> None:
    """Embed together what search will ask for one by one, so that `embed` knows it."""
    recipe = context.recipe
    if recipe.spec.items and (recipe.blend or recipe.evaluate.baselines):
        embed([context.prompter.query_text(row.fields) for row in (*context.seen, *context.splits.test)])


def _without_training(context: RunContext) -> RunContext:
    """The same run with a recipe that takes the best of what needs no training."""
    recipe = context.recipe
    untrained = recipe.tune.model_copy(update={"steps": 0, "self_training": SelfTraining(), "trackers": []})
    recipe = recipe.model_copy(update={"tune": untrained})
    return replace(context, prompter=context.prompter.under(recipe))
