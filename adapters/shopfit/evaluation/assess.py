"""Put a test set to an engine, or to an adapter in training, and collect what it answers."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.engine.questions import ask_choose, ask_generate, ask_rank
from shopfit.evaluation.collecting import Pool, collect
from shopfit.evaluation.predictions import Predictions
from shopfit.merchant.catalog import Catalog
from shopfit.merchant.drawing import draw_others
from shopfit.merchant.examples import Example, seen
from shopfit.recipe.schema import Recipe


def pools(recipe: Recipe, examples: Sequence[Example], catalog: Catalog | None) -> list[Pool]:
    """The items each example is to rank; empty for other tasks.

    A row's own candidates; else the catalog without the row's history (unless `data.repeats`), of which
    `evaluate.candidates` are sampled if it is larger, the same for every `tune.seed`. Without a catalog:
    every title that is relevant somewhere.
    """
    if recipe.task != "rank":
        return [()] * len(examples)
    items = list(catalog or dict.fromkeys(item for example in examples for item in example.relevant))
    places = {item: place for place, item in enumerate(items)}
    return [_pool(recipe, example, items, places) for example in examples]


def _pool(recipe: Recipe, example: Example, items: Sequence[str], places: Mapping[str, int]) -> Pool:
    if example.candidates is not None:
        return example.candidates
    left_out = set(example.relevant) | (set() if recipe.data.repeats else set(seen(example.fields)))
    room = max(0, recipe.evaluate.candidates - len(example.relevant))
    others = draw_others(random.Random(f"candidates/{example.id}"), items, places, left_out, room)
    # sorted, so that the place of an item says nothing
    return tuple(sorted((*example.relevant, *others)))


def assess(engine: Engine, tenant: Tenant, examples: Sequence[Example]) -> Predictions:
    """What the engine answers to a test set with the tenant's adapter: exactly what it would serve."""
    recipe, items = tenant.recipe, pools(tenant.recipe, examples, tenant.catalog)
    answers: list[Any]
    match recipe.task:
        case "choose":
            chosen = engine.choose([ChooseRequest(tenant, example.fields) for example in examples])
            answers = [[answer.probabilities[label] for label in tenant.labels] for answer in chosen]
        case "rank":
            ranked = engine.rank(
                [
                    RankRequest(tenant, example.fields, pool, len(pool))
                    for example, pool in zip(examples, items, strict=True)
                ]
            )
            scores = [{item.id: item.score for item in answer.items} for answer in ranked]
            answers = [[score[item] for item in pool] for score, pool in zip(scores, items, strict=True)]
        case "generate":
            answers = [
                answer.text
                for answer in engine.generate([GenerateRequest(tenant, example.fields) for example in examples])
            ]
    return collect(recipe.task, tenant.labels, examples, items, answers, tenant.catalog)


def ask(
    adapted: AdaptedModel, base: Base, prompter: Prompter, labels: Sequence[str], examples: Sequence[Example]
) -> list[Any]:
    """The raw answers of an adapter that is still in training: what `collect` takes."""
    recipe = prompter.recipe
    rows = [example.fields for example in examples]
    match recipe.task:
        case "choose":
            return list(ask_choose(adapted, prompter, labels, rows))
        case "rank":
            return list(
                ask_rank(adapted, prompter, list(zip(rows, pools(recipe, examples, prompter.catalog), strict=True)))
            )
        case "generate":
            return list(ask_generate(adapted, base, prompter, rows))
