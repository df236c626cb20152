"""The learning curve: what a recipe reaches with few and with more examples, and how many to ask a merchant for.

Nothing is registered. Every point is the adapter that `onboard` would make from so many examples, the test set is the
same for all of them, and priors and baselines are fitted to the same examples as the adapter.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shopfit.adapter.artifacts import needed
from shopfit.base.by_language import encoder_of
from shopfit.base.embed import LateEmbedder
from shopfit.base.merchant_search import MerchantEmbedder
from shopfit.engine import Engine, Tenant
from shopfit.errors import DataError, ShopfitError
from shopfit.evaluation.assess import assess
from shopfit.evaluation.contenders import contextual, rivals
from shopfit.evaluation.learning_curve import LearningCurve, Point, Standing, advise
from shopfit.evaluation.metrics import measure
from shopfit.merchant.merchant import Merchant
from shopfit.merchant.search import Embed
from shopfit.pipeline import trained_run
from shopfit.recipe.methods import LARGEST_RANK
from shopfit.recipe.schema import Recipe
from shopfit.registry import Registry, Version
from shopfit.settings import Settings
from shopfit.tasks import Predictions, SystemKind
from shopfit.tune.processes import check_alone
from shopfit.tune.reporter import Reporter, silent
from shopfit.tune.run_context import RunContext, prepare
from shopfit.tune.trainer import make_accelerator
from shopfit.warm_start.donors import Neighbours

if TYPE_CHECKING:
    from accelerate import Accelerator

Values = dict[tuple[str, SystemKind], list[float]]
"""The metric of each system, one a seed."""


def learning_curve(
    merchant: Merchant,
    recipe: Recipe,
    shots: Sequence[int],
    seeds: int,
    *,
    settings: Settings,
    reporter: Reporter = silent,
) -> LearningCurve:
    """Measure a recipe's metric against the number of examples.

    Each seed draws its own examples and is the seed of training: the recipe's own, the next one, and so on. At 0 stands
    what does without examples: the bare base, the house's starter for this recipe if there is one, and the priors and
    baselines that learn nothing. A number above what the merchant has is replaced by all there are, and one below what
    can be trained on (2, or one a label) is left out; both are announced.

    How many to ask for: the smallest number measured from which no larger one is better by more than its spread (the
    standard deviation over seeds) and by more than 0.01. If that is the largest, the curve still rises.

    Args:
        merchant: whose examples.
        recipe: whose metric it is; its `data.shots` does not count.
        shots: numbers of examples, in any order.
        seeds: draws of each number, at least 1.
        settings: where state lives.
        reporter: told of every point.

    Raises:
        DataError: if no number can be measured, or with every bad row.
        ShopfitError: for anything else that is wrong.
    """
    started = time.perf_counter()
    _check(shots, seeds)
    whole = _with(recipe, None, recipe.tune.seed)
    with Registry.open(settings) as registry:
        accelerator = make_accelerator(whole)
        check_alone("a learning curve is measured in one process, not in", accelerator)
        context = prepare(merchant, whole, settings=settings, accelerator=accelerator, reporter=reporter)
        numbers = _measurable(context, shots, reporter)
        embed = MerchantEmbedder(LateEmbedder(settings.home).called(encoder_of(context.recipe)), merchant.name)
        runner = _PointRunner(context, registry, settings, accelerator, embed, reporter)
        drawn = [recipe.tune.seed + number for number in range(seeds)]
        reporter("curve", f"{', '.join(map(str, numbers))} examples, seeds {', '.join(map(str, drawn))}")
        base = runner.base()
        points, without = [], "base"
        for number in numbers:
            if number:
                values = runner.with_examples(number, drawn)
            else:
                without, values = runner.without_examples(base)
            systems = [Standing.of(name, kind, found) for (name, kind), found in values.items()]
            points.append(Point(shots=number, systems=(Standing.of("base", "base", [base]), *systems)))
    asked, available = recipe.evaluate, len(context.seen)
    return LearningCurve(
        merchant=context.merchant.name,
        recipe=recipe.name,
        task=recipe.task,
        metric=asked.metric,
        k=asked.k,
        n_test=len(context.splits.test),
        available=available,
        seeds=drawn,
        without=without,
        points=tuple(points),
        advice=advise(points, asked.metric, asked.k, available=available),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, slots=True)
class _PointRunner:
    """Measures the points, with what all of them share."""

    context: RunContext
    registry: Registry
    settings: Settings
    accelerator: "Accelerator"
    embed: Embed
    reporter: Reporter

    def base(self) -> float:
        """What the bare base reaches."""
        context = self.context
        with Engine(context.base, slots=1, max_rank=LARGEST_RANK) as engine:
            return self._value(assess(engine, self._tenant("the base"), context.splits.test))

    def without_examples(self, base: float) -> tuple[str, Values]:
        """What is shown as the adapter at 0 examples, and every system that needs none."""
        context, recipe = self.context, self.context.recipe
        tenant, name, reached = self._tenant("the base"), "base", base
        version = self._first()
        with Engine(context.base, slots=1, max_rank=LARGEST_RANK) as engine:
            if version is not None:
                name = version.name
                bundle = self.registry.read(version, needed, self.settings.cache)
                asked = replace(tenant, name=name, bundle=bundle)
                reached = self._value(assess(engine, asked, context.splits.test))
            self.reporter("point", f"0 examples, {name}: {recipe.evaluate.metric} {reached:.3f}")
            values: Values = {("adapter", "adapter"): [reached]}
            if (settled := contextual(engine, tenant)) is not None:
                calibrated = self._value(assess(engine, settled, context.splits.test))
                values["base-calibrated", "baseline"] = [calibrated]
        for one in rivals(context.seen, context.splits.test, tenant, context.prompter, self.embed, fitted=False):
            values[one.name, one.kind] = [self._value(one.predictions)]
        return name, values

    def with_examples(self, shots: int, seeds: Sequence[int]) -> Values:
        """What every system reaches with so many examples, drawn and trained by each seed."""
        values: Values = {}
        for seed in seeds:
            recipe = _with(self.context.recipe, shots, seed)
            context = prepare(
                self.context.merchant,
                recipe,
                settings=self.settings,
                accelerator=self.accelerator,
                base=self.context.base,
            )
            test, began = context.splits.test, time.perf_counter()
            with trained_run(context, self.registry, settings=self.settings, embed=self.embed) as run:
                assert run is not None  # there is one process
                tenant, start = Tenant.of(run.bundle), run.bundle.manifest.start
                with Engine(context.base, slots=1, max_rank=LARGEST_RANK, embed=self.embed) as engine:
                    reached = self._value(assess(engine, tenant, test))
                others = rivals(context.seen, test, tenant, context.prompter, self.embed)
            values.setdefault(("adapter", "adapter"), []).append(reached)
            for one in others:
                values.setdefault((one.name, one.kind), []).append(self._value(one.predictions))
            took = f"start {start}, {time.perf_counter() - began:.0f} s"
            self.reporter("point", f"{shots} examples, seed {seed}: {recipe.evaluate.metric} {reached:.3f} ({took})")
        return values

    def _first(self) -> Version | None:
        """What the recipe would start from if there were no examples to choose by."""
        recipe = self.context.recipe
        if recipe.start == "scratch":
            return None
        if recipe.start != "auto":
            return self.registry.resolve(recipe.start)
        return Neighbours(self.registry, self.context.base, recipe, self.context.merchant.name).starter_version()

    def _tenant(self, name: str) -> Tenant:
        prompter = self.context.prompter
        return Tenant(name, self.context.recipe, self.context.splits.labels, prompter.catalog, prompter.history)

    def _value(self, predictions: Predictions) -> float:
        asked = self.context.recipe.evaluate
        return measure(predictions, [asked.metric], asked.k)[asked.metric]


def _with(recipe: Recipe, shots: int | None, seed: int) -> Recipe:
    """The recipe for one draw, without trackers: they are for one run, not for many."""
    data = recipe.data.model_copy(update={"shots": shots})
    tune = recipe.tune.model_copy(update={"seed": seed, "trackers": []})
    return recipe.model_copy(update={"data": data, "tune": tune})


def _check(shots: Sequence[int], seeds: int) -> None:
    if not shots or min(shots) < 0:
        named = ", ".join(map(str, shots)) or "none"
        raise ShopfitError(f"numbers of examples are 0 or more, and there is {named}", next_step="such as 0,4,8,16")
    if seeds < 1:
        raise ShopfitError(f"there must be at least 1 seed, not {seeds}", next_step="3 show how much draws differ")


def _measurable(context: RunContext, shots: Sequence[int], reporter: Reporter) -> list[int]:
    """The numbers that this merchant's examples allow, in rising order.

    Raises:
        DataError: if there is none.
    """
    available, least = len(context.seen), max(2, len({example.label for example in context.seen}))
    for number in sorted(set(shots)):
        if 0 < number < least:
            reporter(
                "curve", f"{number} left out: it takes {least}" + (", one a label" if least > 2 else " to train on")
            )
        if number > available:
            reporter(
                "curve", f"{number} cut to {available}: {context.merchant.name} has no more examples to learn from"
            )
    found = sorted({min(number, available) for number in shots if number == 0 or number >= least})
    if not found:
        raise DataError(
            f"no number of examples can be measured: {context.merchant.name} has {available} to learn from, "
            f"and it takes {least} or more",
            next_step=f"ask for numbers from {least} to {available}, or for 0",
        )
    return found
