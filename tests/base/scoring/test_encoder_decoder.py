"""Scores of many answers at once, which the decoder reads in several forwards, are those of a few at a time."""

from pathlib import Path

import pytest
import torch
from tests.base.encoder_decoder_table import ENCODER_DECODERS
from tests.base.test_encoder_decoder_families import load_tiny
from tests.base.tiny import save_tiny
from torch import Tensor

from shopfit.base.load import Base, load_base
from shopfit.base.output_head import backbone_of
from shopfit.base.scoring.questions import Question, Tokens
from shopfit.tune.contrastive import HiddenStateCapture

PROMPTS = tuple(tuple((torch.arange(length) % 300 + 5).tolist()) for length in (100, 60))
ANSWERS: tuple[Tokens, ...] = tuple((first, 9 + first % 7, 11)[: 2 + first % 2] for first in range(20, 220))
FEW = 10


@pytest.fixture(scope="module", params=["t5", "bart"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp(request.param)
    return load_tiny(request.param, folder / "base", folder)


def few_at_a_time(base: Base) -> Tensor:
    """(2 * 200,) by questions of few answers, each alone."""
    parts = [ANSWERS[start : start + FEW] for start in range(0, len(ANSWERS), FEW)]
    with torch.inference_mode():
        return torch.cat(
            [base.scorer.collate([Question(prompt, part)]).forward(base.model) for prompt in PROMPTS for part in parts]
        )


def test_many_answers_score_as_few_do(base: Base) -> None:
    batch = base.scorer.collate([Question(prompt, ANSWERS) for prompt in PROMPTS])
    wanted = few_at_a_time(base)
    with torch.inference_mode():
        torch.testing.assert_close(batch.forward(base.model), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(batch.forward(base.model).detach(), wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std() > 0.1


@pytest.mark.parametrize("answers", [((7,), (8,)), ((7,),)])
def test_answers_of_one_token(base: Base, answers: tuple[Tokens, ...]) -> None:
    batch = base.scorer.collate([Question(prompt, answers) for prompt in PROMPTS])
    found = batch.forward(base.model).detach()
    with torch.inference_mode():
        torch.testing.assert_close(batch.forward(base.model), found, rtol=1e-4, atol=1e-4)
    assert found.shape == (2 * len(answers),)


def test_their_gradients_are_the_same(base: Base) -> None:
    weight = next(base.model.get_encoder().parameters())
    weight.requires_grad_()
    try:
        found = []
        for parts in ([ANSWERS], [ANSWERS[start : start + FEW] for start in range(0, len(ANSWERS), FEW)]):
            weight.grad = None
            for part in parts:
                batch = base.scorer.collate([Question(prompt, part) for prompt in PROMPTS])
                batch.forward(base.model).sum().backward()
            assert weight.grad is not None
            found.append(weight.grad)
    finally:
        weight.requires_grad_(False)
        weight.grad = None
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_the_state_of_a_prompt_is_that_before_its_first_answer(base: Base) -> None:
    kept = HiddenStateCapture(backbone_of(base.model))
    states = []
    for answers in (ANSWERS, ANSWERS[:1]):
        batch = base.scorer.collate([Question(prompt, answers) for prompt in PROMPTS])
        with kept.open():
            batch.forward(base.model)
        states.append(batch.prompt_states(base.model, kept.take()))
    torch.testing.assert_close(states[0], states[1], rtol=1e-4, atol=1e-4)


def test_one_saved_without_its_output_head(tmp_path: Path, home: Path) -> None:
    """It is tied to the embedding, as in facebook/bart-base."""
    from transformers import AutoModelForSeq2SeqLM

    folder = save_tiny(tmp_path / "base", "bart", "AutoModel", **ENCODER_DECODERS["bart"].settings)
    base, plain = load_base(str(folder), home), AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    batch = base.scorer.collate([Question(PROMPTS[0], ((8,),))])
    with torch.inference_mode():
        logits = plain(input_ids=torch.tensor([PROMPTS[0]]), decoder_input_ids=torch.tensor([[5]])).logits
        assert float(batch.forward(base.model)) == pytest.approx(float(logits[0, -1].log_softmax(-1)[8]), abs=1e-4)
