"""Answer a test set with an engine, or with an adapter in training, and collect the predictions."""

from collections.abc import Sequence
from typing import Any, assert_never

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.base.load import Base
from shopfit.base.prompt import Prompter
from shopfit.engine import Answer, ChooseAnswer, Engine, GenerateAnswer, RankAnswer, RecommendAnswer, Tenant
from shopfit.engine.questions import ask_choose, ask_generate, ask_rank
from shopfit.engine.requests import request_for
from shopfit.merchant.examples import Example
from shopfit.tasks import Pool, Predictions, task_of


def assess(engine: Engine, tenant: Tenant, examples: Sequence[Example]) -> Predictions:
    """What the engine answers to a test set with the tenant's adapter: exactly what it would serve."""
    recipe, items = tenant.recipe, task_of(tenant.recipe.task).pools(tenant.recipe, examples, tenant.catalog)
    options = [{"candidates": pool, "top": len(pool)} if recipe.spec.items else {} for pool in items]
    asked = [
        request_for(recipe.task, tenant, example.fields, more) for example, more in zip(examples, options, strict=True)
    ]
    answers = [_raw(answer, tenant.labels, pool) for answer, pool in zip(engine.answer(asked), items, strict=True)]
    return task_of(recipe.task).collect(tenant.labels, examples, items, answers, tenant.catalog)


def _raw(answer: Answer, labels: Sequence[str], pool: Pool) -> Any:
    """What `collect` takes of an answer: probabilities of the labels, scores of the pool's items, or the text."""
    match answer:
        case ChooseAnswer():
            return [answer.probabilities[label] for label in labels]
        case RankAnswer() | RecommendAnswer():
            score = {item.id: item.score for item in answer.items}
            return [score[item] for item in pool]
        case GenerateAnswer():
            return answer.text
        case _:
            assert_never(answer)


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
                ask_rank(
                    adapted,
                    prompter,
                    list(zip(rows, task_of(recipe.task).pools(recipe, examples, prompter.catalog), strict=True)),
                )
            )
        case "generate":
            return list(ask_generate(adapted, base, prompter, rows))
        case _:
            assert_never(recipe.task)
