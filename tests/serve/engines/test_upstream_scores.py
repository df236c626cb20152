"""Answers that vLLM scores token by token, whatever they share, score as our own scorer has it."""

import asyncio

import numpy as np
import pytest
from tests.serve.engines.vllm_stand_in import serving

from shopfit.base.load import Base
from shopfit.base.scoring.questions import Question, Tokens
from shopfit.serve.engines.upstream_scores import answer_scores
from shopfit.serve.engines.vllm_client import VllmClient

PROMPT = (5, 6, 7, 8)
ANSWERS: dict[str, tuple[Tokens, ...]] = {
    "one of one token": ((9,),),
    "one within another": ((9, 10), (9,), (9, 10, 11)),
    "the same twice": ((9, 10), (9, 10)),
    "more first tokens than vLLM tells of at once": tuple((token,) for token in range(20, 320)),
    "more beginnings than a request holds": tuple((token, 400 - token, 9) for token in range(20, 100)),
}


@pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)
def test_scores_are_those_of_our_own_scorer(base: Base, answers: tuple[Tokens, ...]) -> None:
    question = Question(PROMPT, answers)

    async def ask(url: str) -> np.ndarray:
        client = VllmClient(url)
        try:
            return await answer_scores(client, question, "acme/reviews@1:0")
        finally:
            await client.close()

    with serving(base.model, base.tokenizer) as server:
        found = asyncio.run(ask(server.url))
    plan = base.scorer.plan([question])
    (own,) = plan.scores(base.scorer.compute(base.model, plan.rows))
    assert found == pytest.approx(own, abs=1e-5)
