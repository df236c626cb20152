"""Questions in, numbers and texts out: the one way to an answer, for tuning's own checks, evaluation and serving."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from shopfit.adapter.stack import Stack
from shopfit.adapter.voice import Voice
from shopfit.base.load import Base
from shopfit.base.prompt import Question
from shopfit.base.scoring import answer_log_probs, plant
from shopfit.recipe.schema import Serve

Floats = NDArray[np.float64]


def score(
    voice: Voice,
    questions: Sequence[Question],
    *,
    pad: int,
    token_budget: int = 2048,
    slots: Sequence[int] | None = None,
    stack: Stack | None = None,
) -> list[Floats]:
    """Mean log-probability a token of every answer.

    Args:
        voice: who answers.
        questions: N of them.
        pad: token id that fills rows up.
        token_budget: tokens a forward, padding included, unless one question alone is longer.
        slots: N slots of `stack`, whose adapters answer.
        stack: on the voice's model; given together with `slots`.

    Returns:
        N arrays, one number of at most 0 an answer.
    """
    scores: list[Floats] = [np.empty(0)] * len(questions)
    for batch in _batches([question.tokens for question in questions], token_budget):
        step: AbstractContextManager[None] = nullcontext()
        if slots is not None and stack is not None:
            batch.sort(key=slots.__getitem__)  # rows in slot order need no copies
            step = stack.rows([slots[index] for index in batch])
        tree = plant([questions[index] for index in batch], pad).to(voice.model.device)
        with torch.inference_mode(), step:
            sums = answer_log_probs(
                voice.model, tree, prefix=voice.prefix(len(batch)), prefix_length=voice.prefix_length
            )
            means = (sums / tree.lengths).double().cpu()
        for index, part in zip(batch, torch.split(means, list(tree.counts)), strict=True):
            scores[index] = part.numpy()
    return scores


def write(
    voice: Voice, base: Base, prompts: Sequence[Sequence[int]], serve: Serve, *, seed: int = 0, token_budget: int = 2048
) -> list[str]:
    """Generate an answer to every prompt.

    Args:
        voice: who answers.
        base: its base, for the tokenizer.
        prompts: N token sequences.
        serve: how long, how random, where to stop.
        seed: of the sampling, where `serve.temperature` is above 0.
        token_budget: prompt tokens a forward, padding included.

    Returns:
        N texts, without the stop string that ended them.
    """
    texts = [""] * len(prompts)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for batch in _batches([len(prompt) for prompt in prompts], token_budget):
            for index, text in zip(
                batch, _generate(voice, base, [prompts[index] for index in batch], serve), strict=True
            ):
                texts[index] = text
    return texts


def _generate(voice: Voice, base: Base, prompts: Sequence[Sequence[int]], serve: Serve) -> list[str]:
    width = max(map(len, prompts))
    pad = base.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=base.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=base.device)
    behind = voice.prefix_length
    if behind:
        # transformers reads the cache's length off the mask and the ids: the virtual tokens need a place in both
        ids = torch.nn.functional.pad(ids, (behind, 0), value=pad)
        mask = torch.nn.functional.pad(mask, (behind, 0), value=1)
    sampling = (
        {"do_sample": True, "temperature": serve.temperature, "top_p": serve.top_p}
        if serve.temperature
        else {"do_sample": False}
    )
    with torch.inference_mode():
        tokens = voice.model.generate(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=voice.prefix(len(prompts)),
            max_new_tokens=serve.max_new_tokens,
            pad_token_id=pad,
            eos_token_id=base.tokenizer.eos_token_id,
            tokenizer=base.tokenizer,
            stop_strings=serve.stop or None,
            **sampling,
        )
    texts = base.tokenizer.batch_decode(tokens[:, ids.shape[1] :], skip_special_tokens=True)
    return [_until(text, serve.stop).strip() for text in texts]


def _until(text: str, stops: Sequence[str]) -> str:
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices of rows of like length, longest first, so that a batch too large for memory shows at once."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
