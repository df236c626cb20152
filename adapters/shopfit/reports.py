"""What an adapter reached on its merchant's test set: right after its run, or measured again."""

import time
from dataclasses import replace

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import Bundle, HeldBundle
from shopfit.base.by_language import encoder_of
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
from shopfit.engine import Engine, Tenant
from shopfit.evaluation import Report, make_report
from shopfit.evaluation.assess import Answers
from shopfit.evaluation.calibration import calibration_facts
from shopfit.evaluation.contenders import compare, compare_held_out
from shopfit.evaluation.report import Course, Held, Served, Sources
from shopfit.evaluation.retrieval import retrieval_facts
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.search import Embed
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.schema import SelfTraining
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit.tasks import ChoosePredictions
from shopfit.tune.memory import peak_memory_mb
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.run_context import RunContext, TrainedRun, prepare
from shopfit.tune.score_fusion import as_served
from shopfit.tune.trainer import make_accelerator


def report_on(
    context: RunContext,
    bundle: Bundle | HeldBundle,
    embed: Embed,
    started: float,
    run: TrainedRun | None = None,
    reporter: Reporter = silent,
    instant: Bundle | None = None,
    answers: Answers | None = None,
) -> Report:
    """Measure the adapter as it will be served, the bare base, every prior and every baseline on the test set; and the
    instant version, if one was made before.

    Args:
        context: of the run.
        bundle: the adapter.
        embed: turns texts into vectors.
        started: when the work on it began.
        run: that made it, if it was just made.
        reporter: told if more has to be asked.
        instant: the instant version.
        answers: what was answered for other versions of the run.
    """
    recipe, test = context.recipe, context.splits.test
    engine, tenant = Engine(context.base, slots=2, max_rank=LARGEST_RANK, embed=embed), Tenant.of(bundle)
    before = None if instant is None else Tenant.of(instant, "the instant version")
    contenders = compare(engine, tenant, context.seen, test, context.prompter, embed, before, answers)

    def held_out() -> Held | None:
        rows = 0 if run is None else sum(len(part.valid) for part, _ in run.cross_validated)
        if run is None or not rows:
            return None
        reporter(
            "evaluating", f"base on {rows} examples that cross-validation held out: {len(test)} test rows do not decide"
        )
        served = as_served(recipe, run.cross_validated, tenant.blend, embed)
        folds = [(part.train, part.valid, said) for (part, _), said in zip(run.cross_validated, served, strict=True)]
        return compare_held_out(engine, tenant, [fold for fold in folds if fold[1]])

    said = next(one.predictions for one in contenders if one.kind == "adapter")
    splits, manifest, leaks = context.splits, bundle.manifest, context.splits.leaks
    sources = Sources(
        context.merchant.name,
        len(context.seen),
        splits.test_kind,
        manifest.data.pretext,
        leaks={
            "duplicates": leaks.duplicates,
            "near_duplicates": leaks.near_duplicates,
            "shared_groups": leaks.shared_groups,
        },
        contradictions=splits.contradictions.counts,
    )
    calibration = (
        calibration_facts(
            said,
            recipe.tune.temperature if tenant.blend is not None else tenant.temperature,  # a blend weighs it otherwise
            recipe.tune.temperature,
            tenant.threshold,
        )
        if isinstance(said, ChoosePredictions)
        else {}
    )
    retrieval = retrieval_facts(engine, tenant, test)
    served = Served({} if tenant.blend is None else tenant.blend.weights, calibration, retrieval)
    course = Course(manifest.start, self_training=manifest.self_training)
    if run is not None:
        course = replace(
            course,
            start_losses=run.start_losses,
            searched=None if run.study is None else run.study.facts(),
            curve=run.tuned.curve,
            blend_losses=run.blend_losses,
        )
    return make_report(
        recipe,
        Held(contenders, [example.group for example in test]),
        sources,
        replace(course, seconds=time.perf_counter() - started, peak_memory_mb=peak_memory_mb()),
        served,
        labels={str(example.label) for example in (*context.seen, *test)} if recipe.spec.single_label else None,
        held_out=held_out,
    )


def measure_again(reference: str, merchant: Merchant, *, settings: Settings) -> Report:
    """Measure a registered adapter, the bare base, every prior and every baseline on a merchant's test set.

    Args:
        reference: such as `acme/review-sentiment@7`.
        merchant: whose test set, as it is now.
        settings: where state lives.

    Raises:
        ShopfitError: with what is wrong.
    """
    started = time.perf_counter()
    with Registry.open(settings) as registry:
        version = registry.resolve(reference)
        bundle = registry.read(version, needed, settings.cache)
    tenant = Tenant.of(bundle, version.name)
    untrained = {"self_training": SelfTraining(), "mixed_precision": "no", "trackers": []}
    settled = tenant.recipe.tune.model_copy(update=untrained)
    known = bundle.manifest.base
    recipe = tenant.recipe.model_copy(update={"base": known.name, "dtype": known.dtype, "tune": settled})
    context = prepare(merchant, recipe, settings=settings, accelerator=make_accelerator(recipe))
    return report_on(
        context,
        bundle,
        MerchantEmbedder(LateEmbedder(settings.home).called(encoder_of(recipe)), merchant.name),
        started,
    )
