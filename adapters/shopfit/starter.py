"""Starters: one adapter trained over many merchants that share, for the others to start from.

A starter is a version like any other, of the merchant `house`. Its manifest names its donors, so that when one of them
leaves, the starters that learned from it are known.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shopfit.adapter.bundle import DataIdentity, Manifest, seal, write_json
from shopfit.base.by_language import cannot_read, merchants_by_base, settled, several_bases
from shopfit.base.load import Base
from shopfit.base.packaged import PACKAGED
from shopfit.engine import Engine, Tenant
from shopfit.errors import DataError, Problem, RecipeError, ShopfitError
from shopfit.evaluation.assess import assess
from shopfit.evaluation.evidence import Evidence, mean_of, weigh
from shopfit.evaluation.metrics import measure
from shopfit.evaluation.wording import signed_with_span
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.sampling import draw
from shopfit.methods import METHODS
from shopfit.recipe.levels import as_written
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.names import HOUSE
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.registry.temp_folders import sweep
from shopfit.settings import Settings
from shopfit.tasks import Predictions
from shopfit.tune.bundle_writer import save, staging
from shopfit.tune.merchant_dataset import MerchantDataset
from shopfit.tune.processes import first_process_first
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.rewriting import ready_to_augment
from shopfit.tune.run_context import base_of
from shopfit.tune.trainer import Trainer, Tuned, make_accelerator
from shopfit.tune.training_callback import TrainingCallback

PER_MERCHANT = 64  # examples of each donor an epoch, at most
_VALID, _TEST = 16, 50  # of each donor, at most: together they are many


@dataclass(frozen=True, slots=True)
class Fitted:
    """A starter, registered.

    Args:
        version: in the registry.
        metric: the recipe's metric.
        reached: by donor, the metric of the bare base and of the starter on the donor's test set.
        promoted: whether the starter is proven to beat the base, the mean over donors.
        candidate: if not, whether it beats it on their test sets at least.
        seconds: that it took.
    """

    version: Version
    metric: str
    reached: dict[str, tuple[float, float]]
    promoted: bool
    candidate: bool
    seconds: float


def fit_starter(
    folders: Sequence[Path],
    recipe: Recipe,
    *,
    settings: Settings,
    actor: str,
    reporter: Reporter = silent,
    callback: TrainingCallback | None = None,
) -> Fitted | None:
    """Train a starter from the folders of merchants that share, and register it as `house/<recipe>`.

    Args:
        folders: of the donors, at least two.
        recipe: how it is made, and what it can start.
        settings: where state lives.
        actor: who asks, for the registry's audit.
        reporter: told of every resolved choice.
        callback: sees every training step.

    Returns:
        what came of it; None on every process but the first.

    Raises:
        RecipeError: if it asks for DoRA, which nothing can start from, or the donors' languages for several bases.
        DataError: if a donor does not share, is there twice, or has bad rows; with all of them at once.
        ShopfitError: for anything else that is wrong; then nothing is registered.
    """
    started = time.perf_counter()
    if METHODS[recipe.adapter.method].no_plain_form(recipe.adapter):
        raise RecipeError(
            f"adapter.dora: a starter of {recipe.name} with DoRA is one that no other adapter can start from",
            next_step="leave adapter.dora out for the starter (`--set adapter.dora=false`); adapters with DoRA start "
            "from one of LoRA",
        )
    if recipe.tune.steps == 0:
        raise RecipeError(
            f"tune.steps of {recipe.name} is 0, and a starter is what training over merchants makes",
            next_step="leave tune.steps out for the starter",
        )
    sweep(settings.home)
    with Registry.open(settings) as registry:
        accelerator = make_accelerator(recipe, str(settings.home / "logs"))
        donors = _donors(folders, recipe)
        erasures = registry.erasures(donor.merchant.name for donor in donors)
        recipe = _on_one_base(recipe, [donor.merchant for donor in donors])
        donors = [replace(donor, recipe=recipe) for donor in donors]
        base = base_of(recipe, settings, str(accelerator.device))
        for tag in dict.fromkeys(donor.merchant.language for donor in donors):
            if warning := cannot_read(base.name, base.languages, tag):
                reporter("language", warning)
        for donor in donors:
            splits = donor.splits
            reporter("donor", f"{donor.merchant.name}: {len(splits.train)} to train on, {len(splits.test)} to test")
        with first_process_first(accelerator):
            donors = [
                replace(
                    donor,
                    splits=ready_to_augment(donor.splits, recipe, donor.merchant, base, settings.home, reporter),
                )
                for donor in donors
            ]
        training_sets = [donor.training_set(base) for donor in donors]
        each = min(PER_MERCHANT, max(len(training_set.train) for training_set in training_sets))
        reporter(
            "tuning",
            f"{each} examples of each of {len(training_sets)} donors an epoch, up to {recipe.tune.epochs} epochs",
        )
        tuned = Trainer(base, accelerator, callback).fit_together(training_sets, recipe, per_merchant=each)
        if not accelerator.is_main_process:
            tuned.adapter.detach()
            return None
        with staging(settings.home) as folder:
            manifest = _save(recipe, base, donors, tuned, folder)
            bundle = seal(folder, manifest)
            reporter("evaluating", f"starter and base on the test sets of {len(donors)} donors")
            answers = _answers(base, recipe, donors, Tenant.of(bundle))
            metric = recipe.evaluate.metric
            reached = {name: _reached(recipe, *both) for name, both in answers.items()}
            evidence = mean_of([_evidence(recipe, donor, *answers[donor.merchant.name]) for donor in donors])
            write_json(folder / "report.json", {"metric": metric, "donors": reached, "gain": asdict(evidence.gain)})
            metrics = {metric: sum(after for _, after in reached.values()) / len(reached)}
            bundle = seal(folder, manifest.model_copy(update={"metrics": metrics}))
            better, proven = evidence.gain.value > recipe.gate.min_gain, evidence.proves(recipe.gate.min_gain)
            gained = f"it gains {signed_with_span(evidence.gain)} over the base, the mean of donors"
            reporter("gate", gained + ("" if proven or not better else ": not proven, so it becomes @candidate"))
            published = registry.publish(
                bundle, refused=None if better else gained, promote=proven, actor=actor, erasures=erasures
            )
            reporter("registered", published.name)
    return Fitted(published, metric, reached, better and proven, better and not proven, time.perf_counter() - started)


def starters(registry: Registry, *, donor: str | None = None) -> list[tuple[Version, Manifest]]:
    """Every starter with its manifest; with `donor`, those that learned from this merchant.

    Raises:
        RegistryError: if the registry cannot be read.
    """
    found = []
    for version in registry.versions(HOUSE):
        manifest = registry.manifest(version)
        if donor is None or donor in manifest.donors:
            found.append((version, manifest))
    return found


def _donors(folders: Sequence[Path], recipe: Recipe) -> list[MerchantDataset]:
    """Open every donor, and collect everything that is wrong with any of them."""
    if len(folders) < 2:
        raise DataError(
            f"a starter learns from several merchants, and there is {len(folders) or 'none'}",
            next_step="name at least two folders with --from",
        )
    problems: list[Problem] = []
    donors: dict[str, MerchantDataset] = {}
    for folder in folders:
        try:
            merchant = Merchant.open(folder)
            if not merchant.share:
                problems.append(Problem(str(folder), f"{merchant.name} does not share", "share: true in merchant.yaml"))
            elif merchant.name in donors:
                problems.append(Problem(str(folder), f"{merchant.name} is named twice", "each merchant once"))
            else:
                donors[merchant.name] = _donor(merchant, recipe)
        except ShopfitError as error:
            problems += error.problems or [Problem(str(folder), error.message)]
    if problems:
        raise DataError(
            "these folders cannot donate to a starter",
            problems=problems,
            next_step="leave them out, or correct them; a merchant shares by its own decision only",
        )
    _check_ranges(recipe, list(donors.values()))
    return list(donors.values())


def _on_one_base(recipe: Recipe, merchants: Sequence[Merchant]) -> Recipe:
    """The recipe with the base for the donors' language; where they have several, the packaged one that reads most.

    Raises:
        RecipeError: if their languages have several bases, and nobody knows of one what it reads.
    """
    found = merchants_by_base(recipe, {merchant.name: merchant.language for merchant in merchants})
    if len(found) > 1 and not all(base in PACKAGED for base in found):
        raise RecipeError(
            f"the donors' languages ask for several bases, and a starter is on one: {several_bases(found)}",
            next_step="make a starter of each, or name one: --set base=…",
        )
    encoders = {settled(recipe, merchant.language).serve.encoder for merchant in merchants}
    base, encoder = (
        max(sorted(names), key=lambda name: len(PACKAGED[name].languages) if name in PACKAGED else 0)
        for names in (found, encoders)
    )
    serve = recipe.serve.model_copy(update={"encoder": encoder})
    return recipe.model_copy(update={"base": base, "bases": {}, "serve": serve})


def _check_ranges(recipe: Recipe, donors: Sequence[MerchantDataset]) -> None:
    """Refuse scores of several ranges: one word cannot stand for a score in each, nor can their errors be averaged."""
    levels = [donor.splits.labels for donor in donors]
    if recipe.spec.kind == "number" and len(set(levels)) > 1:
        least, most = (pick(float(level) for mine in levels for level in mine) for pick in (min, max))
        raise DataError(
            f"the donors of {recipe.name} do not rate on one scale",
            problems=[
                Problem(donor.merchant.name, f"its scores go from {mine[0]} to {mine[-1]}")
                for donor, mine in zip(donors, levels, strict=True)
            ],
            next_step="leave some out, or name the range that all of them share, such as "
            f"data.bounds=[{as_written(least)},{as_written(most)}]",
        )


def _donor(merchant: Merchant, recipe: Recipe) -> MerchantDataset:
    dataset = MerchantDataset.read(merchant, recipe)
    if not dataset.splits.train:
        raise DataError(f"{merchant.name} has no examples in {recipe.data.file}: it has nothing to donate")
    valid, test = draw(dataset.splits.valid, _VALID, "donor"), draw(dataset.splits.test, _TEST, "donor")
    return replace(dataset, splits=replace(dataset.splits, valid=valid, test=test))


def _answers(
    base: Base, recipe: Recipe, donors: Sequence[MerchantDataset], tenant: Tenant
) -> dict[str, tuple[Predictions, Predictions]]:
    """What base and starter answer on each donor's test set."""
    answers = {}
    with Engine(base, slots=1, max_rank=LARGEST_RANK) as engine:
        for donor in donors:
            bare, starter = (
                Tenant(
                    donor.merchant.name,
                    recipe,
                    donor.splits.labels,
                    donor.shown.catalog,
                    donor.shown.history,
                    bundle,
                )
                for bundle in (None, tenant.bundle)
            )
            test = donor.splits.test
            answers[donor.merchant.name] = assess(engine, bare, test), assess(engine, starter, test)
    return answers


def _reached(recipe: Recipe, base: Predictions, starter: Predictions) -> tuple[float, float]:
    metric, k = recipe.evaluate.metric, recipe.evaluate.k
    return measure(base, [metric], k)[metric], measure(starter, [metric], k)[metric]


def _evidence(recipe: Recipe, donor: MerchantDataset, base: Predictions, starter: Predictions) -> Evidence:
    asked, groups = recipe.evaluate, [example.group for example in donor.splits.test]
    return weigh(starter, base, asked.metric, asked.k, groups, asked.resamples, recipe.tune.seed)


def _save(recipe: Recipe, base: Base, donors: Sequence[MerchantDataset], tuned: Tuned, folder: Path) -> Manifest:
    def ids(part: str) -> list[str]:
        return [f"{donor.merchant.name}/{row.id}" for donor in donors for row in getattr(donor.splits, part)]

    return save(
        tuned,
        base,
        recipe,
        folder,
        merchant=HOUSE,
        labels=list(dict.fromkeys(label for donor in donors for label in donor.splits.labels)),
        data=DataIdentity(
            digest=",".join(donor.splits.digest for donor in donors),
            train=ids("train"),
            valid=ids("valid"),
            test=ids("test"),
        ),
        share=True,
        donors=[donor.merchant.name for donor in donors],
        languages=sorted({donor.merchant.language for donor in donors}),
    )
