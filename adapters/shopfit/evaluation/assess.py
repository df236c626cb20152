"""Put a test set to an engine, or to an adapter in training, and collect what it answers."""

from collections.abc import Sequence
from typing import Any

from shopfit.adapter.voice import Voice
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, RankRequest, Tenant
from shopfit.engine.asking import ask_choose, ask_generate, ask_rank
from shopfit.merchant.examples import Example
from shopfit.tasks import Predictions, task_of


def assess(engine: Engine, tenant: Tenant, examples: Sequence[Example]) -> Predictions:
    """What the engine answers to a test set with the tenant's adapter: exactly what it would serve."""
    recipe, items = tenant.recipe, task_of(tenant.recipe.task).pools(tenant.recipe, examples, tenant.catalog)
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
    return task_of(recipe.task).collect(tenant.labels, examples, items, answers, tenant.catalog)


def ask(voice: Voice, base: Base, prompter: Prompter, labels: Sequence[str], examples: Sequence[Example]) -> list[Any]:
    """The raw answers of an adapter that is still in training: what `collect` takes."""
    recipe = prompter.recipe
    rows = [example.fields for example in examples]
    match recipe.task:
        case "choose":
            return list(ask_choose(voice, prompter, labels, rows))
        case "rank":
            return list(
                ask_rank(
                    voice,
                    prompter,
                    list(zip(rows, task_of(recipe.task).pools(recipe, examples, prompter.catalog), strict=True)),
                )
            )
        case "generate":
            return list(ask_generate(voice, base, prompter, rows))
