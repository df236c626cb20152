"""Scores of answers by vLLM: the mean log-probability a token, as our own scorer has it.

vLLM is asked for the next token behind each beginning of an answer, once however many answers share it. It would tell
of a prompt's own tokens, too (`prompt_logprobs`), but with adapters its processes end where two such prompts are in one
batch (0.32 on a CPU: it takes the adapters of a token a row for those of all tokens).
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shopfit.base.scoring.questions import Question, Tokens
from shopfit.serve.engines.vllm_client import VllmClient

NEUTRAL = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sampling options that change nothing, whatever the base's generation_config.json says."""
_PROMPTS = 32  # in one request
_TOKENS = 128  # whose log-probabilities vLLM tells in one request

Following = tuple[Tokens, Sequence[int]]
"""A beginning of answers, and tokens behind it."""


async def answer_scores(client: VllmClient, question: Question, name: str) -> NDArray[np.float64]:
    """The score of each answer of a question.

    Args:
        client: of vLLM.
        question: with answers that are texts.
        name: of the adapter.

    Raises:
        ShopfitError: if vLLM does not answer.
    """
    answers = question.texts
    following: dict[Tokens, set[int]] = {}
    for answer in answers:
        for at, token in enumerate(answer):
            following.setdefault(answer[:at], set()).add(token)
    parts = [_ask(client, question.prompt, part, name) for part in _together(following)]
    found = {answer: log for part in await asyncio.gather(*parts) for answer, log in part.items()}
    return np.array([np.mean([found[answer[: at + 1]] for at in range(len(answer))]) for answer in answers])


async def _ask(client: VllmClient, prompt: Tokens, part: Sequence[Following], name: str) -> dict[Tokens, float]:
    """The log-probability of each token behind the prompt and a beginning, by that beginning with the token."""
    body = {
        "prompt": [[*prompt, *beginning] for beginning, _ in part],
        "max_tokens": 1,
        "temperature": 0.0,
        "ignore_eos": True,  # so that a token for the end comes with log-probabilities, too
        "logprobs": 1,
        "logprob_token_ids": sorted({token for _, tokens in part for token in tokens}),
        "return_tokens_as_token_ids": True,
        **NEUTRAL,
    }
    document = await client.complete(name, body)
    choices = sorted(document["choices"], key=lambda choice: choice["index"])
    found = {}
    for (beginning, tokens), choice in zip(part, choices, strict=True):
        (logs,) = choice["logprobs"]["top_logprobs"]
        found.update({(*beginning, token): float(logs[f"token_id:{token}"]) for token in tokens})
    return found


def _together(following: Mapping[Tokens, Collection[int]]) -> Iterator[list[Following]]:
    """Parts that one request can ask for."""
    part: list[Following] = []
    union: set[int] = set()
    for beginning, tokens in following.items():
        ordered = sorted(tokens)
        for some in (ordered[at : at + _TOKENS] for at in range(0, len(ordered), _TOKENS)):
            if part and (len(part) == _PROMPTS or len(union.union(some)) > _TOKENS):
                yield part
                part, union = [], set()
            part.append((beginning, some))
            union.update(some)
    if part:
        yield part
