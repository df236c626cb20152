"""Scoring and generation without an engine: for evaluation during training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from shopfit.adapter.adapted_model import AdaptedModel
from shopfit.adapter.head import Head
from shopfit.base.load import Base
from shopfit.base.prefix import lift_out
from shopfit.base.scoring.questions import Question
from shopfit.base.scoring.scorer import Floats, Scorer, cut
from shopfit.engine.constraints import Constraint
from shopfit.engine.decoding import Decoder, GeneratedSequence
from shopfit.engine.detokenizer import IncrementalDetokenizer
from shopfit.engine.sampling import Sampling
from shopfit.recipe.schema import Serve


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
    plan = scorer.plan(questions, prototypes=None if adapted.head is None else _directions(adapted.head))
    results: list[Floats] = [np.empty(0)] * len(plan.rows)
    for batch in cut([row.tokens for row in plan.rows], token_budget):
        with torch.inference_mode():
            prefix = adapted.prefix(len(batch))
        parts = scorer.compute(adapted.model, [plan.rows[index] for index in batch], prefix)
        for index, part in zip(batch, parts, strict=True):
            results[index] = part
    return plan.scores(results)


def _directions(head: Head) -> Floats:
    """(L, D) rows of length 1."""
    rows: Floats = normalize(head.prototypes.detach(), dim=-1).double().cpu().numpy()
    return rows


def write(
    adapted: AdaptedModel,
    base: Base,
    prompts: Sequence[Sequence[int]],
    serve: Serve,
    *,
    constraints: Sequence[Constraint | None],
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
        )
        for number, (prompt, constraint) in enumerate(zip(prompts, constraints, strict=True))
    ]
    decoder = Decoder(adapted.model, base.tokenizer, rows=rows)
    waiting = sorted(sequences, key=lambda sequence: len(sequence.prompt))  # taken from the end: the longest first
    while waiting or decoder.sequences:
        if waiting and decoder.free >= min(rows // 2, len(waiting)):
            room, waiting = waiting[-decoder.free :], waiting[: -decoder.free]
            decoder.join(room)
        else:
            decoder.step()
        decoder.take()
    return [sequence.detokenizer.text for sequence in sequences]
