"""Answers of an adapted model without an engine: for evaluation during training."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.base.load import Base
from shopfit.base.prefix import lift_out
from shopfit.base.prompt import Prompter
from shopfit.base.scoring.questions import Question
from shopfit.base.scoring.scorer import Floats, Scorer, cut, width
from shopfit.engine.constraints import Constraint, Constraints
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.engine.sampling import Sampling
from shopfit.merchant.examples import Fields
from shopfit.recipe.item_rules import Rules
from shopfit.recipe.schema import Serve
from shopfit.tasks import scored_task_of


def ask(
    adapted: AdaptedModel,
    prompter: Prompter,
    rows: Sequence[Fields],
    *,
    labels: Sequence[str] = (),
    pools: Sequence[Sequence[str]] | None = None,
) -> list[Any]:
    """The raw answers to N rows of a task whose answers are scored, as its `collect` takes them.

    Args:
        adapted: model that answers.
        prompter: of the recipe.
        rows: fields of each.
        labels: of the merchant.
        pools: rank: the items that each row is to rank.
    """
    task = scored_task_of(prompter.recipe.task)
    pools = [()] * len(rows) if pools is None else pools
    asked = [task.question(prompter, labels, row, pool, adapted.head) for row, pool in zip(rows, pools, strict=True)]
    # in parts of the same size on any base: a sum's last bits depend on the size
    parts = [question.parts() for question in asked]
    scores = iter(score(adapted, prompter.scorer, [part for row in parts for part in row]))
    whole = [np.concatenate([next(scores) for _ in row]) if row else np.empty(0) for row in parts]
    if len(adapted.offsets):
        whole = [row - np.array(adapted.offsets) for row in whole]
    return [task.raw(prompter.recipe, labels, row) for row in whole]


def ask_generate(
    adapted: AdaptedModel, base: Base, prompter: Prompter, rows: Sequence[Fields], *, seed: int = 0
) -> list[str]:
    """The generated answer to each of N rows."""
    serve = prompter.recipe.serve
    constraints = Constraints(base.tokenizer, base.model.get_output_embeddings().out_features)
    bound = [answer_constraint(constraints, prompter, serve.json_schema) for _ in rows]
    prompts = [prompter.encode(row) for row in rows]
    return write(adapted, base, prompts, serve, constraints=bound, end=prompter.end, seed=seed)


def answer_constraint(
    constraints: Constraints, prompter: Prompter, json_schema: Mapping[str, Any] | None
) -> Constraint | None:
    """The constraint of a generated answer: the schema if there is one, else a title if the recipe wants one.

    Raises:
        RequestError: if the schema cannot be used, or the recipe wants titles and no item is in stock.
    """
    around, end = prompter.around_output, prompter.end
    if json_schema is not None:
        return constraints.json(json_schema, around, end)
    if not prompter.recipe.serve.titles:
        return None
    items = (prompter.catalog or {}).values()
    return constraints.choice([item.title for item in items if Rules().allow(item.fields)], around, end)


def score(
    adapted: AdaptedModel, scorer: Scorer[Any], questions: Sequence[Question], *, token_budget: int = 2048
) -> list[Floats]:
    """Score of every answer: its mean log-probability a token, or for an encoder its similarity to the question.

    Args:
        adapted: model that answers all of them.
        scorer: of its base.
        questions: N of them, with one answer each at least.
        token_budget: tokens a forward, padding included, unless one row alone is longer.

    Returns:
        N arrays, one number an answer.
    """
    classes = None if adapted.head is None else adapted.head.classes.detach().double().cpu().numpy()
    plan = scorer.plan(questions, classes=classes)
    results: list[Floats] = [np.empty(0)] * len(plan.rows)
    with torch.inference_mode():
        one = adapted.prefix(1)
    behind = 0 if one is None else one.width
    for batch in cut([width(row.tokens, behind) for row in plan.rows], token_budget, adapted.model.device):
        with torch.inference_mode():
            prefix = adapted.prefix(len(batch))
        parts = scorer.compute(adapted.model, [plan.rows[index] for index in batch], prefix)
        for index, part in zip(batch, parts, strict=True):
            results[index] = part
    return plan.scores(results)


def write(
    adapted: AdaptedModel,
    base: Base,
    prompts: Sequence[Sequence[int]],
    serve: Serve,
    *,
    constraints: Sequence[Constraint | None],
    end: frozenset[int] = frozenset(),
    seed: int = 0,
    rows: int = 32,
) -> list[str]:
    """Generate an answer to every prompt.

    Args:
        adapted: model that answers.
        base: its base, for the tokenizer.
        prompts: N token sequences.
        serve: length, temperature and stop strings.
        constraints: grammar of each answer.
        end: tokens that end an answer, besides the base's.
        seed: of the sampling, where `serve.temperature` is above 0.
        rows: answers decoded at a time.

    Returns:
        N texts, without the stop string that ended them.
    """
    with torch.inference_mode():
        before = adapted.prefix(1)
    prefix = None if before is None else lift_out(before)
    sequences = [
        GeneratedSequence(
            prompt,
            IncrementalDetokenizer(base.tokenizer, serve.stop),
            serve.max_new_tokens,
            Sampling(serve.temperature, serve.top_p, f"{seed}/{number}"),
            prefix,
            constraint=constraint,
            end=end,
        )
        for number, (prompt, constraint) in enumerate(zip(prompts, constraints, strict=True))
    ]
    decoder = Decoder(adapted.model, base.tokenizer, base.scorer, rows=rows)
    waiting = sorted(sequences, key=lambda sequence: len(sequence.prompt))  # taken from the end: the longest first
    while waiting or decoder.sequences:
        if waiting and decoder.free >= min(rows // 2, len(waiting)):
            room, waiting = waiting[-decoder.free :], waiting[: -decoder.free]
            decoder.join(room)
        else:
            decoder.step()
        decoder.take()
    return [sequence.detokenizer.text for sequence in sequences]
