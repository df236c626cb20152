"""Prepacked weights compute what plain ones do."""

from pathlib import Path

import torch
from torch import nn

from shopfit.base.load import load_base
from shopfit.base.prepack import PrepackedLinear, prepack


def test_the_same_numbers_forwards_and_backwards() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(48, 80), nn.SiLU(), nn.Linear(80, 33, bias=False)).requires_grad_(
        requires_grad=False
    )
    packed = nn.Sequential(nn.Linear(48, 80), nn.SiLU(), nn.Linear(80, 33, bias=False))
    packed.load_state_dict(plain.state_dict())
    assert prepack(packed.requires_grad_(requires_grad=False)) == 2
    assert isinstance(packed[0], PrepackedLinear)
    rows = torch.randn(3, 7, 48)
    inputs = [rows.clone().requires_grad_(), rows.clone().requires_grad_()]
    results = [model(x) for model, x in zip((plain, packed), inputs, strict=True)]
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    for result in results:
        (result * torch.linspace(-1, 1, 33)).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(packed(rows), results[0], rtol=1e-5, atol=1e-5)


def test_autocast_still_chooses_the_precision() -> None:
    layer = nn.Sequential(nn.Linear(16, 16)).requires_grad_(requires_grad=False)
    prepack(layer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(torch.randn(2, 16)).dtype == torch.bfloat16


def test_what_is_trained_or_not_float32_is_left_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8, dtype=torch.bfloat16).requires_grad_(requires_grad=False))
    assert prepack(model) == 0
    assert [type(module) for module in model] == [nn.Linear, nn.Linear]


def test_a_loaded_base_is_prepacked_and_keeps_its_weights(tiny_base: Path, home: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = load_base(str(tiny_base), home)
    plain = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    linear = [module for module in plain.modules() if isinstance(module, nn.Linear)]
    assert sum(isinstance(module, PrepackedLinear) for module in base.model.modules()) == len(linear) > 0
    ours, theirs = base.model.state_dict(), plain.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ids = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(base.model(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-4)
