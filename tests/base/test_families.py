"""Tiny random decoders of many families: each answers as its own plain forward does, or is refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.tiny import save_tiny, tiny_model

from shopfit.base.families import DECODERS
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.architectures import scorer_of
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.base.self_test import prove
from shopfit.errors import BaseError

FULL = {"layer_types": ["full_attention", "full_attention"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "exaone4": FULL,
    "qwen2": {"vocab_size": 416},  # its tokenizer adds an end token of its own
    "smollm3": FULL,
    "granite": {"logits_scaling": 1.0},
}
QUESTIONS = [
    Question((5, 6, 7, 8, 9), ((10, 11), (12,), (13, 14, 15))),
    Question((20, 21), ((22,), (23, 24))),
    Question((30,), ((31, 32),)),
]


@pytest.mark.parametrize("kind", sorted(DECODERS))
def test_a_decoder_scores_as_its_plain_forward_does(kind: str, tmp_path: Path, home: Path) -> None:
    base = load_base(str(save_tiny(tmp_path / "b", kind, "AutoModelForCausalLM", **SETTINGS.get(kind, {}))), home)
    assert not base.encoder
    with torch.inference_mode():
        got = CausalScorer(0).collate(QUESTIONS).forward(base.model)
        wanted = [_alone(base, question, answer) for question in QUESTIONS for answer in question.answers]
        torch.testing.assert_close(got, torch.tensor(wanted), rtol=1e-4, atol=1e-4)
        base.model(torch.arange(base.max_length)[None] % 300)  # the longest text does not crash


def _alone(base: Base, question: Question, answer: tuple[int, ...]) -> float:
    logs = base.model(torch.tensor([question.prompt + answer])).logits[0].log_softmax(-1)
    return sum(logs[len(question.prompt) - 1 + at, token].item() for at, token in enumerate(answer))


DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}
OTHERS: list[tuple[str, str, dict[str, Any], str]] = [
    ("cohere", "AutoModelForCausalLM", {}, "logit_scale"),
    ("cohere2", "AutoModelForCausalLM", {}, "logit_scale"),
    ("granite", "AutoModelForCausalLM", {"logits_scaling": 8.0}, "logits_scaling"),
    ("gemma2", "AutoModelForCausalLM", {}, "softcapping"),
    ("mpt", "AutoModelForCausalLM", {}, "mpt"),
    ("bloom", "AutoModelForCausalLM", {}, "bloom"),
    ("gptj", "AutoModelForCausalLM", {}, "gptj"),
    ("gpt_neo", "AutoModelForCausalLM", {"attention_types": [[["global"], 2]]}, "gpt_neo"),
    ("codegen", "AutoModelForCausalLM", {}, "codegen"),
    ("xglm", "AutoModelForCausalLM", {}, "xglm"),
    ("modernbert-decoder", "AutoModelForCausalLM", {}, "modernbert-decoder"),
    ("mixtral", "AutoModelForCausalLM", {}, "mixtral"),
    ("bert", "AutoModelForCausalLM", {"is_decoder": True}, "decoder"),
    ("bert", "AutoModelForSequenceClassification", {}, "BertForSequenceClassification"),
    ("llama", "AutoModel", {}, "LlamaModel"),
    ("gpt2", "AutoModel", {}, "GPT2Model"),
    ("qwen2", "AutoModelForSequenceClassification", {}, "Qwen2ForSequenceClassification"),
    (
        "llama",
        "AutoModelForCausalLM",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        "rope_type",
    ),
    ("bart", "AutoModel", {}, "encoder beside its decoder"),
    ("t5", "AutoModelForSeq2SeqLM", {"decoder_start_token_id": 0, "d_kv": 8, "d_ff": 64}, "encoder beside its decoder"),
]


@pytest.mark.parametrize(
    ("kind", "loader", "settings", "why"), OTHERS, ids=lambda each: each if isinstance(each, str) else ""
)
def test_others_are_refused_by_name(
    kind: str, loader: str, settings: dict[str, Any], why: str, tmp_path: Path, home: Path
) -> None:
    folder = save_tiny(tmp_path / "b", kind, loader, **settings)
    with pytest.raises(BaseError, match=f"(?s)^the base .*{why}"):
        load_base(str(folder), home)


@pytest.mark.parametrize("kind", ["cohere", "gemma2", "mpt", "gptj", "xglm", "codegen", "bloom"])
def test_the_proof_refuses_what_no_list_knows(kind: str) -> None:
    """The net under the lists: each of these would be silently wrong."""
    loader, settings = next((loader, settings) for other, loader, settings, _ in OTHERS if other == kind)
    with pytest.raises(BaseError, match=r"plain forward|cannot be run"):
        prove(kind, tiny_model(kind, loader, **settings), scorer_of("decoder", 0))


def test_the_docs_name_every_decoder() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bases.md").read_text()
    assert [kind for kind in DECODERS if f"`{kind}`" not in text] == []
