"""One question of a console's page, answered by the gateway's own path, with how the version understood it."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from shopfit.errors import ShopfitError
from shopfit.recipe.loading import parse_recipe
from shopfit.recipe.schema import Recipe
from shopfit.registry import Version
from shopfit.serve.console.routes import Visit
from shopfit.serve.console.try_form import Question
from shopfit.serve.request_record import current_record


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer.

    Args:
        question: that was asked.
        task: of the version.
        version: that answered.
        digest: of it.
        release: why that version: it is in "production", its "canary", or "named".
        answer: of the engine, as JSON.
        explanation: how the request was understood; None if that cannot be told.
        unexplained: why not; empty if it can.
        tells_sure: whether the recipe says from when an answer is sure.
        labels: of the version; of a rating, its levels.
        read: tokens that the model read.
        written: tokens that it wrote.
        seconds: that the answer took.
    """

    question: Question
    task: str
    version: str
    digest: str
    release: str
    answer: Mapping[str, Any]
    explanation: Mapping[str, Any] | None
    unexplained: str
    tells_sure: bool
    labels: tuple[str, ...]
    read: int
    written: int
    seconds: float

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Labels with their probabilities, the most probable first."""
        return sorted(self.answer["probabilities"].items(), key=lambda pair: -pair[1])

    @property
    def reasons(self) -> list[str]:
        """Names of the stages that scored items."""
        return list(dict.fromkeys(name for item in self.answer["items"] for name in item.get("reasons", {})))

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest score there can be."""
        levels = [float(label) for label in self.labels]
        return (min(levels), max(levels)) if levels else (0.0, 0.0)


async def find_version(visit: Visit, model: str) -> tuple[Version, Recipe]:
    """The version that a name means for the key of a visit, and its recipe.

    Raises:
        UnknownReference: if the key may not ask it, which is the same as that it does not exist.
    """
    _, version = await visit.gateway.adapters.find(model, visit.grant)
    manifest = await visit.gateway.threads.run(visit.gateway.registry.manifest, version)
    return version, parse_recipe(manifest.recipe_snapshot)


async def is_cold(visit: Visit, version: Version) -> bool:
    """Whether the engine of a version has yet to start: the first question will wait for that."""
    adapters = visit.gateway.adapters
    try:
        base = (await adapters.facts(version)).base
    except ShopfitError:  # asking tells what is wrong
        return False
    return all(one.base != base or one.running is None for one in visit.gateway.engines.engines)


async def answer(visit: Visit, model: str, question: Question, *, explain: bool = True) -> Answered:
    """Ask as an endpoint does: the request counts, and is limited, as any other of the key.

    Args:
        visit: of who asks.
        model: that is asked.
        question: that fits its recipe.
        explain: whether to tell the prompt.

    Raises:
        ShopfitError: as an endpoint does.
    """
    async with AsyncExitStack() as held:
        if (own := visit.grant.merchant) is not None:  # of the platform's keys the turn itself sees to it
            await held.enter_async_context(visit.gateway.limits.admit(own, current_record()))
        turn = await held.enter_async_context(visit.gateway.turn(visit.grant, model, [], ""))
        began = time.perf_counter()
        said = await turn.ask(question.ask)
        seconds = time.perf_counter() - began
        explanation, why = None, ""
        if explain:
            try:
                explanation = await turn.explain(question.ask.fields, question.rules)
            except ShopfitError as error:
                why = error.message
        return Answered(
            question,
            turn.facts.task,
            turn.version.name,
            turn.version.digest,
            turn.chosen.release,
            said,
            explanation,
            why,
            turn.facts.tells_sure,
            turn.facts.labels,
            turn.read,
            turn.written,
            seconds,
        )


async def answer_both(visit: Visit, models: tuple[str, str], questions: tuple[Question, Question]) -> list[Answered]:
    """The answers of two versions, asked together. Raises as `answer` does."""
    asked = zip(models, questions, strict=True)
    return list(await asyncio.gather(*(answer(visit, model, one, explain=False) for model, one in asked)))
