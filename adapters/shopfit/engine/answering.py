"""Questions in, numbers and texts out: the one way to an answer, for tuning's own checks, evaluation and serving."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from shopfit.adapter.voice import Voice, answer_sums
from shopfit.base.load import Base
from shopfit.base.meaning import SHARPNESS, fill_up, text_vectors
from shopfit.base.prefix import Prefix, lift_out
from shopfit.base.prompt import Question
from shopfit.base.scoring import Tree, answer_log_probs, plant
from shopfit.engine.constraints import Constraint
from shopfit.engine.decoding import Decoder, Line
from shopfit.engine.sampling import Sampling
from shopfit.engine.writing import Writing
from shopfit.recipe.schema import Serve

Floats = NDArray[np.float64]


def score(voice: Voice, questions: Sequence[Question], *, pad: int, token_budget: int = 2048) -> list[Floats]:
    """Score of every answer: its mean log-probability a token, or how near it is to its question for an encoder.

    Args:
        voice: who answers all of them.
        questions: N of them.
        pad: token id that fills rows up.
        token_budget: tokens a forward, padding included, unless one question alone is longer.

    Returns:
        N arrays, one number an answer.
    """
    if voice.model.get_output_embeddings() is None:
        return _nearness(voice, questions, pad, token_budget)
    scores: list[Floats] = [np.empty(0)] * len(questions)
    for batch in cut([question.tokens for question in questions], token_budget):
        tree = plant([questions[index] for index in batch], pad).to(voice.model.device)
        with torch.inference_mode():
            parts = _means(answer_sums(voice, tree), tree)
        for index, part in zip(batch, parts, strict=True):
            scores[index] = part
    return scores


def _nearness(voice: Voice, questions: Sequence[Question], pad: int, token_budget: int) -> list[Floats]:
    """The same for an encoder, where each text is read once, however many questions it belongs to."""
    head = None if voice.head is None else normalize(voice.head.rows.detach(), dim=-1).double().cpu().numpy()
    shown = [(question.prompt, *question.more, *(question.answers if head is None else ())) for question in questions]
    texts = list(dict.fromkeys(chain.from_iterable(shown)))
    vectors: dict[Sequence[int], Floats] = {}
    for batch in cut([len(text) for text in texts], token_budget):
        some = [texts[index] for index in batch]
        vectors |= zip(some, embed_batch(voice.model, some, pad), strict=True)
    scores = []
    for question in questions:
        asked = np.stack([vectors[text] for text in (question.prompt, *question.more)])  # (M, D)
        answers = [vectors[answer] if head is None else head[answer[0]] for answer in question.answers]
        scores.append(nearest(asked, np.stack(answers)))
    return scores


def nearest(asked: Floats, answers: Floats) -> Floats:
    """(A,) scores of answers (A, D): how near each is to the nearest of the texts that ask (M, D), all of length 1."""
    scores: Floats = SHARPNESS * (answers @ asked.T).max(1)
    return scores


def score_batch(model: Any, questions: Sequence[Question], pad: int, prefix: Prefix | None = None) -> list[Floats]:
    """The same for one forward's questions to a decoder.

    Args:
        model: the causal language model.
        questions: B of them.
        pad: token id that fills rows up.
        prefix: what stands before each of the B rows.
    """
    tree = plant(questions, pad).to(model.device)
    with torch.inference_mode():
        return _means(answer_log_probs(model, tree, prefix), tree)


def _means(sums: Tensor, asked: Tree) -> list[Floats]:
    means = (sums / asked.lengths).double().cpu()
    return [part.numpy() for part in torch.split(means, list(asked.counts))]


def embed_batch(model: Any, texts: Sequence[Sequence[int]], pad: int) -> list[Floats]:
    """Vectors of one forward's texts.

    Args:
        model: the encoder.
        texts: R of them, as tokens.
        pad: token id that fills rows up.

    Returns:
        R arrays (D,) of length 1.
    """
    input_ids, mask = fill_up(texts, pad)
    with torch.inference_mode():
        vectors = text_vectors(model, input_ids.to(model.device), mask.to(model.device))
    return list(vectors.double().cpu().numpy())


def write(
    voice: Voice,
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
        voice: who answers.
        base: its base, for the tokenizer.
        prompts: N token sequences.
        serve: how long, how random, where to stop.
        constraints: what each answer must be.
        seed: of the sampling, where `serve.temperature` is above 0.
        rows: answers being written at a time.

    Returns:
        N texts, without the stop string that ended them.
    """
    with torch.inference_mode():
        before = voice.prefix(1)
    prefix = None if before is None else lift_out(before)
    lines = [
        Line(
            prompt,
            Writing(base.tokenizer, serve.stop),
            serve.max_new_tokens,
            Sampling(serve.temperature, serve.top_p, f"{seed}/{number}"),
            prefix,
            constraint=constraint,
        )
        for number, (prompt, constraint) in enumerate(zip(prompts, constraints, strict=True))
    ]
    decoder = Decoder(voice.model, base.tokenizer, rows=rows)
    waiting = sorted(lines, key=lambda line: len(line.prompt))  # the longest are at the end, and first
    while waiting or decoder.lines:
        if waiting and decoder.free >= min(rows // 2, len(waiting)):
            room, waiting = waiting[-decoder.free :], waiting[: -decoder.free]
            decoder.join(room)
        else:
            decoder.step()
        decoder.take()
    return [line.writing.text for line in lines]


def cut(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of rows of like length, longest first, so that a batch too large for memory shows at once."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
