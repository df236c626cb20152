"""The main job: a merchant's examples -> tune -> evaluate -> gate -> publish, with an honest report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from shopfit.adapter.bundle import Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.start import Start
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import Base, load_base
from shopfit.base.prompt import Prompter
from shopfit.engine import Engine, Tenant
from shopfit.engine.blending import Blend
from shopfit.engine.tenant import BLEND, CATALOG, HISTORY, write_items
from shopfit.errors import RecipeError
from shopfit.evaluation import CurvePoint, Report, card, make_report
from shopfit.evaluation.calibration import calibrate, calibration_facts
from shopfit.evaluation.comparing import compare
from shopfit.evaluation.predictions import ChoosePredictions
from shopfit.merchant.examples import Example
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.search import Embed, direction
from shopfit.merchant.splits import Splits
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.settings import Settings
from shopfit.tune.blending import fit_blend
from shopfit.tune.lessons import Material
from shopfit.tune.loop import Tuned, Watch, make_accelerator, tune
from shopfit.tune.neighbours import find_start
from shopfit.tune.plan import peak_memory_mb
from shopfit.tune.rewriting import ready_to_augment
from shopfit.tune.saving import save, staging
from shopfit.tune.shop import Shop
from shopfit.tune.starts import Choice

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
        recipe: how it is made.
        base: loaded.
        prompter: for this recipe and merchant.
        splits: the examples.
    """

    merchant: Merchant
    recipe: Recipe
    base: Base
    prompter: Prompter
    splits: Splits

    @property
    def material(self) -> Material:
        """What there is to learn from."""
        return Material(self.splits.train, self.splits.valid, self.splits.labels, self.prompter)

    @property
    def seen(self) -> list[Example]:
        """Every example that the adapter may learn from: also what baselines and priors are fitted on."""
        return [*self.splits.train, *self.splits.valid]


@dataclass(frozen=True, slots=True)
class Onboarded:
    """What came of it.

    Args:
        version: in the registry.
        report: what it reached, with the gate's verdict.
        bundle: its files, on local disk.
    """

    version: Version
    report: Report
    bundle: Bundle


def onboard(
    folder: Path,
    recipe: Recipe,
    *,
    settings: Settings,
    actor: str,
    say: Say = silent,
    watch: Watch | None = None,
) -> Onboarded | None:
    """Make an adapter for the merchant in `folder`, evaluate it, and register it: promoted if the gate lets it pass.

    Under Accelerate's launcher every process takes part in training; the first one does the rest.

    Args:
        folder: a merchant's folder.
        recipe: what to make.
        settings: where state lives.
        actor: who asks, for the registry's audit.
        say: hears every resolved choice.
        watch: sees every training step.

    Returns:
        what came of it; None on every process but the first.

    Raises:
        ShopfitError: with what is wrong; then nothing is registered and nothing is left behind.
    """
    started = time.perf_counter()
    with Registry.open(settings) as registry:  # an unreachable registry should fail before the training, not after
        accelerator = make_accelerator(recipe, str(settings.home / "logs"))
        ground = prepare(folder, recipe, settings=settings, device=str(accelerator.device), say=say)
        with accelerator.main_process_first():  # the others find what the first one wrote
            splits = ready_to_augment(ground.splits, recipe, ground.merchant, ground.base, settings.home, say)
        ground = replace(ground, splits=splits)
        embed = LateEmbedder(settings.home)
        choice = find_start(
            registry,
            ground.base,
            recipe,
            ground.merchant.name,
            ground.material,
            vector=lambda: _vector(ground, embed),
            accelerator=accelerator,
            say=say,
        )
        tuned = _tune(ground, choice.start, accelerator, say, watch)
        if not accelerator.is_main_process:
            tuned.adapter.detach()
            return None
        with staging(settings.home) as staged:
            manifest = _save(ground, tuned, staged, choice, embed, accelerator.num_processes)
            blend, blend_losses = _blend(ground, tuned, embed)
            if blend is not None:
                (staged / BLEND).write_text(blend.model_dump_json(indent=2) + "\n", encoding="utf-8")
                say("blend", ", ".join(f"{name} {weight:.2f}" for name, weight in blend.weights.items()))
            bundle = seal(staged, manifest)
            say("evaluating", f"adapter and base on {len(ground.splits.test)} test examples")
            report = _evaluate(ground, bundle, tuned.curve, embed, started, choice.losses, blend_losses)
            metrics = {name: interval.value for name, interval in report.adapter.metrics.items() if interval.defined}
            manifest = manifest.model_copy(update={"metrics": metrics})
            report.write(bundle.folder)
            (bundle.folder / "README.md").write_text(
                card(report, manifest.model_dump(mode="json", by_alias=True)), encoding="utf-8"
            )
            bundle = seal(bundle.folder, manifest)
            refused = None if report.verdict.promote else report.verdict.reason
            published = registry.publish(bundle, refused=refused, promote=report.verdict.promote, actor=actor)
        return Onboarded(published, report, registry.fetch(published, settings.cache))


def prepare(
    folder: Path, recipe: Recipe, *, settings: Settings, device: str | None = None, say: Say = silent
) -> Ground:
    """Read and check the merchant's data, and load the base. Bad data is found before the base is loaded.

    Raises:
        DataError: with every bad row.
        BaseError: if the base is not there.
        RecipeError: if the recipe's prompt is longer than the base can read.
    """
    merchant = Merchant.open(folder)
    shop = Shop.read(merchant, recipe)
    splits = shop.splits
    say("merchant", f"{merchant.name}, {merchant.description or 'no description'} ({folder})")
    say("recipe", f"{recipe.name}: {recipe.task}, metric {recipe.evaluate.metric}")
    say("examples", _count(splits))
    if splits.leaks.total:
        leaks = splits.leaks
        say(
            "leaks",
            f"taken out of train: {leaks.duplicates} duplicate, {leaks.near_duplicates} near-duplicate, "
            f"{leaks.shared_groups} of a test group",
        )
    base = base_of(recipe, settings, device)
    size = sum(weight.numel() for weight in base.model.parameters())
    say(
        "base",
        f"{base.name}: {size / 1e6:.0f}M parameters on {base.device}, quantization {base.quantization}, "
        f"fingerprint {base.fingerprint[:12]}",
    )
    return Ground(merchant, recipe, base, shop.prompter(base.tokenizer), splits)


def base_of(recipe: Recipe, settings: Settings, device: str | None) -> Base:
    """Load the base that a recipe names.

    Raises:
        BaseError: if it is not there.
        RecipeError: if the recipe's prompt is longer than it can read.
    """
    base = load_base(recipe.base, settings.home, quantization=recipe.quantization, device=device)
    if recipe.prompt.max_tokens > base.max_length:
        raise RecipeError(
            f"prompt.max_tokens is {recipe.prompt.max_tokens}, but the base {base.name} reads {base.max_length}",
            next_step=f"set prompt.max_tokens to {base.max_length // 2} or less",
        )
    return base


def _count(splits: Splits) -> str:
    parts = [
        f"{len(splits.train)} to train on",
        f"{len(splits.valid)} held out to stop early",
        f"{len(splits.test)} to test ({splits.test_kind})",
    ]
    return ", ".join(part for part in parts if not part.startswith("0 ")) + (
        f"; labels {', '.join(splits.labels)}" if splits.labels else ""
    )


def _vector(ground: Ground, embed: Embed) -> list[float]:
    """The direction that the merchant's training texts have in the encoder's space, of length 1."""
    texts = [ground.prompter.text(example.fields) for example in ground.seen[:_VECTOR_TEXTS]]
    return [round(float(number), 6) for number in direction(embed(texts))]


def _tune(ground: Ground, start: Start, accelerator: "Accelerator", say: Say, watch: Watch | None) -> Tuned:
    recipe, splits = ground.recipe, ground.splits
    adapter, settings = recipe.adapter, recipe.tune
    size = (
        f"{adapter.virtual_tokens} virtual tokens"
        if adapter.method == "prefix"
        else f"rank {adapter.rank} on {adapter.targets}"
    )
    say("adapter", f"{adapter.method}, {size}")
    processes = "" if accelerator.num_processes == 1 else f", {accelerator.num_processes} processes"
    plan = f"up to {settings.epochs} epochs in batches of {settings.batch_size}, seed {settings.seed}{processes}"
    say("tuning", plan + ("" if splits.valid else "; too few examples to stop early, so the schedule is fixed"))
    tuned = tune(
        ground.base,
        recipe,
        splits.train,
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
        + (", stopped early" if tuned.stopped_early else ""),
    )
    return tuned


def _save(ground: Ground, tuned: Tuned, folder: Path, choice: Choice, embed: Embed, processes: int) -> Manifest:
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
            digest=splits.digest, train=_ids(splits.train), valid=_ids(splits.valid), test=_ids(splits.test)
        ),
        share=share,
        processes=processes,
        start=choice.start.name,
        vector=_vector(ground, embed) if share else [],
        calibration=calibrate(recipe, tuned.held_out),
    )


def _blend(ground: Ground, tuned: Tuned, embed: Embed) -> tuple[Blend | None, dict[str, float]]:
    """What else the adapter's score is to be made of, learned from its answers to the held-out examples."""
    recipe = ground.recipe
    if not recipe.blend or recipe.task == "generate" or not tuned.held_out:
        return None, {}
    return fit_blend(recipe, ground.material, tuned.held_out[0], embed)


def _ids(examples: Sequence[Example]) -> list[str]:
    return [example.id for example in examples]


def _evaluate(
    ground: Ground,
    bundle: Bundle,
    curve: Sequence[CurvePoint],
    embed: Embed,
    started: float,
    start_losses: Mapping[str, float] | None = None,
    blend_losses: Mapping[str, float] | None = None,
) -> Report:
    """Put the test set to the adapter as it will be served, the bare base, every prior and every baseline."""
    recipe, test = ground.recipe, ground.splits.test
    engine, tenant = Engine(ground.base, slots=1, embed=embed), Tenant.of(bundle)
    contenders = compare(engine, tenant, ground.seen, test, ground.prompter, embed)
    answers = next(one.predictions for one in contenders if one.kind == "adapter")
    leaks = ground.splits.leaks
    return make_report(
        recipe,
        contenders,
        [example.group for example in test],
        merchant=ground.merchant.name,
        n_train=len(ground.seen),
        test_kind=ground.splits.test_kind,
        curve=curve,
        leaks={
            "duplicates": leaks.duplicates,
            "near_duplicates": leaks.near_duplicates,
            "shared_groups": leaks.shared_groups,
        },
        start=bundle.manifest.start,
        calibration=calibration_facts(answers, tenant.temperature, recipe.tune.temperature, tenant.threshold)
        if isinstance(answers, ChoosePredictions)
        else {},
        blend={} if tenant.blend is None else tenant.blend.weights,
        blend_losses=blend_losses,
        start_losses=start_losses,
        seconds=time.perf_counter() - started,
        peak_memory_mb=peak_memory_mb(),
    )


def measure_again(reference: str, folder: Path, *, settings: Settings) -> Report:
    """Put a merchant's test set to a registered adapter, the bare base, every prior and every baseline.

    Args:
        reference: such as `acme/review-sentiment@7`.
        folder: the merchant's folder, as it is now.
        settings: where state lives.

    Raises:
        ShopfitError: with what is wrong.
    """
    started = time.perf_counter()
    with Registry.open(settings) as registry:
        version = registry.resolve(reference)
        bundle = registry.fetch(version, settings.cache)
    tenant = Tenant.of(bundle, version.name)
    ground = prepare(folder, tenant.recipe.model_copy(update={"base": bundle.manifest.base.name}), settings=settings)
    return _evaluate(ground, bundle, [], LateEmbedder(settings.home), started)
