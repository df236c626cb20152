"""Two versions of one adapter on the same rows: what each reaches, by how much they differ, and on which rows."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import BaseIdentity
from shopfit.base.embed import LateEmbedder
from shopfit.base.load import load_base
from shopfit.base.merchant_search import MerchantEmbedder
from shopfit.documents import document
from shopfit.engine import Answer, Engine, Tenant
from shopfit.engine.request_compilation import request_for
from shopfit.errors import RequestError
from shopfit.evaluation.evidence import weigh
from shopfit.evaluation.intervals import Interval, bootstrap
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.examples import Example
from shopfit.merchant.kept_folder import folder_digest
from shopfit.merchant.merchant import Merchant
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.schema import Recipe, SelfTraining
from shopfit.recipe.tasks import METRICS, Task
from shopfit.registry import Registry, Version
from shopfit.settings import Settings
from shopfit.tasks import Pool, Predictions, task_of
from shopfit.tasks.row_answers import RowAnswer, differ
from shopfit.tune.merchant_dataset import MerchantDataset

Better = Literal["first", "second", "both", "neither"]
"""Whose answer to a row is better; of two that are equally good, whether they are right."""

MOST_ROWS = 500
"""Rows that are told of, of those where the versions differ."""
_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Side:
    """One of the versions.

    Args:
        version: its name.
        digest: of it.
        learned: how many of the rows it has learned from.
        metrics: every metric of the task, with its 95% interval.
    """

    version: str
    digest: str
    learned: int
    metrics: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One row.

    Args:
        id: of it.
        fields: what the prompt shows, each as text.
        wanted: the right answer.
        first: the first version's answer.
        second: the second's.
        better: whose is better.
        learned: whether one of them has learned from the row.
    """

    id: str
    fields: dict[str, str]
    wanted: str
    first: RowAnswer
    second: RowAnswer
    better: Better
    learned: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions on the same rows.

    Args:
        merchant: whose they are.
        recipe: of both.
        task: of the recipe.
        metric: that the second version's recipe names.
        k: cut-off of the @k metrics.
        higher_is_better: the metric's direction.
        rows: how many were asked.
        test_kind: whether the merchant fixed them, or they were held out.
        data: digest of the merchant's folder.
        first: the version that the other is compared with.
        second: the other.
        gain: of the second over the first on the metric, positive where it is better, also where lower values are.
        proven: whether the gain is above 0, and not by chance.
        wanted_rows: about how many rows would prove the gain; None if it is none.
        counts: of all rows, whose answer is better.
        differing: rows where they differ.
        different: the first of these, those where one is better before the others.
        seconds: that it took.
    """

    merchant: str
    recipe: str
    task: Task
    metric: str
    k: int
    higher_is_better: bool
    rows: int
    test_kind: str
    data: str
    first: Side
    second: Side
    gain: Interval
    proven: bool
    wanted_rows: int | None
    counts: dict[Better, int]
    differing: int
    different: tuple[ComparedRow, ...]
    seconds: float


def compare_versions(first: str, second: str, merchant: Merchant, *, settings: Settings) -> Comparison:
    """Put a merchant's test rows, as they are now, to two versions of one of its adapters.

    Args:
        first: reference of a version, such as `acme/review-sentiment@7`.
        second: of the version that is compared with it; its recipe says which rows and which metric.
        merchant: whose rows.
        settings: where state lies.

    Raises:
        RequestError: if they are not two versions of one adapter of the merchant.
        ShopfitError: with what else is wrong.
    """
    started = time.perf_counter()
    with Registry.open(settings) as registry:
        versions = [registry.resolve(reference) for reference in (first, second)]
        _check(versions, merchant)
        bundles = [registry.read(version, needed, settings.cache) for version in versions]
    tenants = [Tenant.of(bundle, version.name) for bundle, version in zip(bundles, versions, strict=True)]
    recipe = tenants[1].recipe
    digest = folder_digest(merchant.folder)
    dataset = _dataset(merchant, recipe)
    test, task, catalog = dataset.splits.test, task_of(recipe.task), dataset.shown.catalog
    pools = task.pools(recipe, test, catalog)
    asked = [_with_catalog(tenant, catalog) for tenant in tenants]
    answers = _answers(asked, [bundle.manifest.base for bundle in bundles], merchant, test, pools, settings)
    labels = _labels(tenants, recipe, test)
    said = [_predictions(recipe, labels, test, pools, each, catalog) for each in answers]
    trained = [{*bundle.manifest.data.train, *bundle.manifest.data.valid} for bundle in bundles]
    sides = [
        Side(
            version.name,
            version.digest,
            sum(example.id in ids for example in test),
            {
                name: bootstrap(
                    predictions, name, recipe.evaluate.k, groups(test), recipe.evaluate.resamples, recipe.tune.seed
                )
                for name in recipe.spec.metric_names
            },
        )
        for version, ids, predictions in zip(versions, trained, said, strict=True)
    ]
    evidence = weigh(
        said[1],
        said[0],
        recipe.evaluate.metric,
        recipe.evaluate.k,
        groups(test),
        recipe.evaluate.resamples,
        recipe.tune.seed,
        {str(row.label) for row in (*dataset.splits.train, *dataset.splits.valid, *test)}
        if recipe.spec.single_label
        else None,
    )
    rows = [
        (_row(dataset, example, tenants, pair, any(example.id in ids for ids in trained)), pair)
        for example, pair in zip(test, zip(*answers, strict=True), strict=True)
    ]
    levels = tenants[1].labels if recipe.spec.closed and not recipe.spec.single_label else ()
    apart = [row for row, pair in rows if differ(document(pair[0]), document(pair[1]), levels)]
    apart.sort(key=lambda row: row.better in ("both", "neither"))
    counts: dict[Better, int] = dict.fromkeys(("first", "second", "both", "neither"), 0)
    for row, _ in rows:
        counts[row.better] += 1
    return Comparison(
        merchant=merchant.name,
        recipe=recipe.name,
        task=recipe.task,
        metric=recipe.evaluate.metric,
        k=recipe.evaluate.k,
        higher_is_better=not METRICS[recipe.evaluate.metric].lower_is_better,
        rows=len(test),
        test_kind=dataset.splits.test_kind,
        data=digest,
        first=sides[0],
        second=sides[1],
        gain=evidence.gain,
        proven=evidence.proves(0.0),
        wanted_rows=evidence.rows_to_decide(0.0),
        counts=counts,
        differing=len(apart),
        different=tuple(apart[:MOST_ROWS]),
        seconds=time.perf_counter() - started,
    )


def groups(rows: Sequence[Example]) -> list[str | None]:
    """Names of the groups that rows belong to."""
    return [row.group for row in rows]


def _check(versions: Sequence[Version], merchant: Merchant) -> None:
    first, second = versions
    if (first.merchant, first.recipe) != (second.merchant, second.recipe) or first.number == second.number:
        raise RequestError(
            f"{first.name} and {second.name} cannot be compared (allowed: two versions of one merchant's recipe)",
            next_step="run `shopfit registry ls` to see the versions there are",
        )
    if merchant.name != first.merchant:
        raise RequestError(
            f"{first.name} is of merchant {first.merchant}, and the rows are of {merchant.name}",
            next_step="give that merchant's folder with --data",
        )


def _dataset(merchant: Merchant, recipe: Recipe) -> MerchantDataset:
    settled = recipe.tune.model_copy(update={"self_training": SelfTraining()})
    return MerchantDataset.read(merchant, recipe.model_copy(update={"tune": settled})).with_unlabeled()


def _with_catalog(tenant: Tenant, catalog: Catalog | None) -> Tenant:
    """A tenant with the merchant's catalog as it is now, as a gateway serves it."""
    if catalog is None or tenant.catalog is None:
        return tenant
    history = tenant.history if tenant.history is not None else Catalog({**tenant.catalog, **catalog})
    return replace(tenant, catalog=catalog, history=history)


def _answers(
    tenants: Sequence[Tenant],
    bases: Sequence[BaseIdentity],
    merchant: Merchant,
    rows: Sequence[Example],
    pools: Sequence[Pool],
    settings: Settings,
) -> list[list[Answer]]:
    """What each version answers to each row; two bases are loaded one after the other, and the same one once."""
    same = bases[0] == bases[1]
    together = [list(tenants)] if same else [[tenant] for tenant in tenants]
    found = []
    for base, members in zip(bases, together, strict=False):
        loaded = load_base(base.name, settings.home, quantization=base.quantization, dtype=base.dtype)
        embed = MerchantEmbedder(LateEmbedder(settings.home, remember=False), merchant.name)
        with Engine(loaded, slots=2, max_rank=LARGEST_RANK, embed=embed) as engine:
            found += [_ask(engine, tenant, rows, pools) for tenant in members]
        del loaded
    return found


def _ask(engine: Engine, tenant: Tenant, rows: Sequence[Example], pools: Sequence[Pool]) -> list[Answer]:
    recipe = tenant.recipe
    options = [{"candidates": pool, "top": len(pool)} if recipe.spec.items else {} for pool in pools]
    asked = zip(rows, options, strict=True)
    return engine.answer([request_for(recipe.task, tenant, row.fields, more) for row, more in asked])


def _labels(tenants: Sequence[Tenant], recipe: Recipe, rows: Sequence[Example]) -> tuple[str, ...]:
    """All labels that a version can answer or a row has: one may know more of them than the other."""
    seen = sorted({str(row.label) for row in rows}) if recipe.spec.single_label else []
    return tuple(dict.fromkeys(label for labels in (*(one.labels for one in tenants), seen) for label in labels))


def _predictions(
    recipe: Recipe,
    labels: Sequence[str],
    rows: Sequence[Example],
    pools: Sequence[Pool],
    answers: Sequence[Answer],
    catalog: Catalog | None,
) -> Predictions:
    raw = [answer.raw(labels, pool) for answer, pool in zip(answers, pools, strict=True)]
    return task_of(recipe.task).collect(labels, rows, pools, raw, catalog)


def _row(
    dataset: MerchantDataset, example: Example, tenants: Sequence[Tenant], pair: Sequence[Answer], learned: bool
) -> ComparedRow:
    shown, task = dataset.shown, task_of(dataset.recipe.task)
    fields = {name: text for name in dataset.recipe.fields if (text := shown.show(name, example.fields.get(name)))}
    first, second = (task.judge(example, answer, tenant.labels) for answer, tenant in zip(pair, tenants, strict=True))
    return ComparedRow(
        example.id, fields, task.wanted(example, shown.catalog), first, second, _better(first, second), learned
    )


def _better(first: RowAnswer, second: RowAnswer) -> Better:
    if abs(first.merit - second.merit) > _SAME:
        return "first" if first.merit > second.merit else "second"
    return "both" if first.right and second.right else "neither"
