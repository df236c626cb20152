"""The fused arithmetic of LoRA in training is PEFT's own, number for number."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from shopfit.base.load import Base, load_base
from shopfit.base.shared_inputs import shared_inputs
from shopfit.methods.fusing import fuse

IDS = torch.randint(0, 200, (3, 11), generator=torch.Generator().manual_seed(0))


def _wrapped(base: Base, **options: Any) -> Any:
    torch.manual_seed(0)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, **options)
    peft = get_peft_model(base.model, settings)
    for name, weight in peft.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return peft


def _loss_and_gradients(peft: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    peft.zero_grad()
    loss = peft(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), {
        name: weight.grad.clone() for name, weight in peft.named_parameters() if weight.requires_grad
    }


@pytest.mark.parametrize("targets", ["all-linear", ["v_proj", "down_proj"], ["o_proj"]])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_loss_and_gradients_are_pefts(tiny_base: Path, home: Path, targets: Any, quantization: str) -> None:
    base = load_base(str(tiny_base), home, quantization=quantization)
    peft = _wrapped(base, target_modules=targets).train()
    loss, gradients = _loss_and_gradients(peft)
    fuse(peft)
    fused_loss, fused = _loss_and_gradients(peft)
    torch.testing.assert_close(fused_loss, loss, rtol=1e-5, atol=1e-5)
    assert fused.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(fused[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_dropout_acts_in_training_only(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home)
    peft = _wrapped(base, target_modules="all-linear", lora_dropout=0.5)
    with torch.no_grad():
        plain = peft.eval()(IDS).logits
        fuse(peft)
        torch.testing.assert_close(peft(IDS).logits, plain, rtol=1e-4, atol=1e-4)
        peft.train()
        assert not torch.allclose(peft(IDS).logits, peft(IDS).logits)


def test_unloading_takes_the_arithmetic_off(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home)
    with torch.no_grad():
        bare = base.model(IDS).logits
    peft = _wrapped(base, target_modules="all-linear")
    fuse(peft)
    with torch.no_grad():
        assert not torch.allclose(peft(IDS).logits, bare)
        peft.unload()
        assert torch.equal(base.model(IDS).logits, bare)


def _bert() -> Any:
    from transformers import BertConfig, BertModel

    return BertModel(
        BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    )


def _llama(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_llama, [{"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}] * 2),
        (lambda _: _bert(), [{"query", "key", "value"}, {"dense"}, {"dense"}, {"dense"}, {"dense"}]),
    ],
)
def test_layers_that_read_the_same_input_are_found(
    tiny_base: Path, make: Callable[[Path], Any], expected: list[set[str]]
) -> None:
    model = make(tiny_base).eval()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    layers.pop("lm_head", None)
    groups = shared_inputs(model, layers)
    assert [{name.rpartition(".")[2] for name in group} for group in groups] == expected
