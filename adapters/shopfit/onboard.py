"""The main job: a merchant's examples -> tune -> evaluate -> gate -> publish, with an honest report."""

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import Bundle, HeldBundle, seal
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.engine import Engine, Tenant
from shopfit.errors import RecipeError
from shopfit.evaluation import Report, card, make_report
from shopfit.evaluation.calibration import calibration_facts
from shopfit.evaluation.comparing import compare, compare_held_out
from shopfit.evaluation.report import CARD, Course, Held, Served, Sources
from shopfit.merchant.examples import Fields
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.search import Embed
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.schema import Recipe, SelfTraining
from shopfit.registry import Registry, Version
from shopfit.registry.leavings import sweep
from shopfit.settings import Settings
from shopfit.tasks import ChoosePredictions
from shopfit.tune.bases import AUTO, choose_base
from shopfit.tune.loop import Watch, make_accelerator
from shopfit.tune.making import Ground, Made, Say, making, silent
from shopfit.tune.plan import peak_memory_mb
from shopfit.tune.rewriting import ready_to_augment
from shopfit.tune.score_fusion import as_served
from shopfit.tune.search import check_search
from shopfit.tune.shop import Shop

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True, slots=True)
class Onboarded:
    """What came of it.

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
    say: Say = silent,
    watch: Watch | None = None,
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
        say: hears every resolved choice.
        watch: sees every training step.

    Returns:
        what came of it; None on every process but the first.

    Raises:
        ShopfitError: with what is wrong; then nothing is registered and nothing is left behind.
    """
    started = time.perf_counter()
    sweep(settings.home)
    with Registry.open(settings) as registry:  # an unreachable registry should fail before the training, not after
        accelerator = make_accelerator(recipe, str(settings.home / "logs"))
        if trials is not None:
            check_search(trials, accelerator.num_processes)
        ground = prepare(merchant, recipe, settings=settings, accelerator=accelerator, say=say)
        with accelerator.main_process_first():  # the others find what the first one wrote
            splits = ready_to_augment(ground.splits, recipe, ground.merchant, ground.base, settings.home, say)
        ground = replace(ground, splits=splits)
        embed = LateEmbedder(settings.home)
        with making(
            ground,
            registry,
            settings=settings,
            accelerator=accelerator,
            embed=embed,
            trials=trials,
            say=say,
            watch=watch,
        ) as made:
            if made is None:
                return None
            say("evaluating", f"adapter and base on {len(ground.splits.test)} test examples")
            report = _evaluate(made.ground, made.bundle, embed, started, made, say)
            metrics = {name: interval.value for name, interval in report.adapter.metrics.items() if interval.defined}
            bundle, manifest = made.bundle, made.bundle.manifest.model_copy(update={"metrics": metrics})
            report.write(bundle.folder)
            (bundle.folder / CARD).write_text(card(report, manifest), encoding="utf-8")
            bundle = seal(bundle.folder, manifest)
            refused = report.verdict.reason if report.verdict.refused else None
            published = registry.publish(bundle, refused=refused, promote=report.verdict.promote, actor=actor)
            say("registered", published.name)
        return Onboarded(
            published, report, registry.fetch(published, settings.cache), asked=ground.splits.test[0].fields
        )


def prepare(
    merchant: Merchant,
    recipe: Recipe,
    *,
    settings: Settings,
    accelerator: "Accelerator",
    base: Base | None = None,
    say: Say = silent,
) -> Ground:
    """Read and check the merchant's data, and load the base. Bad data is found before the base is loaded.

    With `base: auto` the bases compete on the examples, and the recipe names the winner from then on.

    Args:
        merchant: whose data.
        recipe: that reads it.
        settings: where bases lie.
        accelerator: the run's, from `make_accelerator`: its device is the base's.
        base: if it is loaded already.
        say: hears what was found.

    Raises:
        DataError: with every bad row.
        BaseError: if the base is not there.
        RecipeError: if the recipe's prompt is longer than the base can read.
    """
    shop = Shop.read(merchant, recipe).with_unlabeled()
    shop.tell(say)
    if base is None:

        def load(name: str) -> Base:
            return base_of(recipe.model_copy(update={"base": name}), settings, str(accelerator.device))

        auto = recipe.base == AUTO
        base = choose_base(shop, load, accelerator=accelerator, say=say) if auto else load(recipe.base)
    if recipe.base == AUTO:
        recipe = recipe.model_copy(update={"base": base.name})
        shop = replace(shop, recipe=recipe)
    size = sum(weight.numel() for weight in base.model.parameters())
    say(
        "base",
        f"{base.name}: {size / 1e6:.0f}M parameters in {base.dtype} on {base.device}, "
        f"quantization {base.quantization}, fingerprint {base.fingerprint[:12]}",
    )
    return Ground(merchant, base, shop.prompter(base), shop.splits, shop.unlabeled)


def base_of(recipe: Recipe, settings: Settings, device: str | None) -> Base:
    """Load the base that a recipe names.

    Raises:
        BaseError: if it is not there.
        RecipeError: if the recipe's prompt is longer than it can read.
    """
    base = load_base(recipe.base, settings.home, quantization=recipe.quantization, device=device, dtype=recipe.dtype)
    if recipe.prompt.max_tokens > base.max_length:
        raise RecipeError(
            f"prompt.max_tokens is {recipe.prompt.max_tokens}, but the base {base.name} reads {base.max_length}",
            next_step=f"set prompt.max_tokens to {base.max_length // 2} or less",
        )
    return base


def _evaluate(
    ground: Ground,
    bundle: Bundle | HeldBundle,
    embed: Embed,
    started: float,
    made: Made | None = None,
    say: Say = silent,
) -> Report:
    """Put the test set to the adapter as it will be served, the bare base, every prior and every baseline."""
    recipe, test = ground.recipe, ground.splits.test
    engine, tenant = Engine(ground.base, slots=1, max_rank=LARGEST_RANK, embed=embed), Tenant.of(bundle)
    contenders = compare(engine, tenant, ground.seen, test, ground.prompter, embed)

    def held_out() -> Held | None:
        rows = 0 if made is None else sum(len(part.valid) for part, _ in made.crossed)
        if made is None or not rows:
            return None
        say(
            "evaluating", f"base on {rows} examples that cross-validation held out: {len(test)} test rows do not decide"
        )
        answers = as_served(recipe, made.crossed, tenant.blend, embed)
        folds = [(part.train, part.valid, said) for (part, _), said in zip(made.crossed, answers, strict=True)]
        return compare_held_out(engine, tenant, [fold for fold in folds if fold[1]])

    answers = next(one.predictions for one in contenders if one.kind == "adapter")
    splits, manifest, leaks = ground.splits, bundle.manifest, ground.splits.leaks
    sources = Sources(
        ground.merchant.name,
        len(ground.seen),
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
            answers,
            recipe.tune.temperature if tenant.blend is not None else tenant.temperature,  # a blend weighs it otherwise
            recipe.tune.temperature,
            tenant.threshold,
        )
        if isinstance(answers, ChoosePredictions)
        else {}
    )
    served = Served({} if tenant.blend is None else tenant.blend.weights, calibration)
    course = Course(manifest.start, self_training=manifest.self_training)
    if made is not None:
        course = replace(
            course,
            start_losses=made.start_losses,
            searched=None if made.study is None else made.study.facts(),
            curve=made.tuned.curve,
            blend_losses=made.blend_losses,
        )
    return make_report(
        recipe,
        Held(contenders, [example.group for example in test]),
        sources,
        replace(course, seconds=time.perf_counter() - started, peak_memory_mb=peak_memory_mb()),
        served,
        labels={str(example.label) for example in (*ground.seen, *test)} if recipe.spec.labels else None,
        held_out=held_out,
    )


def measure_again(reference: str, merchant: Merchant, *, settings: Settings) -> Report:
    """Put a merchant's test set to a registered adapter, the bare base, every prior and every baseline.

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
    ground = prepare(merchant, recipe, settings=settings, accelerator=make_accelerator(recipe))
    return _evaluate(ground, bundle, LateEmbedder(settings.home), started)
