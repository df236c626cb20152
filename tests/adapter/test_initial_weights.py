"""A start gives a fresh adapter exactly what was learned, as far as its rank reaches."""

from pathlib import Path

import pytest
import torch
from tests.solo import Factors, learned
from torch import Tensor

from shopfit.adapter.initial_weights import Start
from shopfit.adapter.stack import Packed, Stack
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.recipe.adapter_section import Adapter

QUESTIONS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23, 24), (25, 26)))]


def with_stack(base: Base, factors: Factors) -> Tensor:
    """What the base answers with these weights, by other means than PEFT's."""
    stack = Stack(base, 1)
    packed: Packed = stack.pack(factors, "x")
    stack.put(1, packed)
    with torch.no_grad(), stack.rows([1, 1]):
        return CausalScorer(0).collate(QUESTIONS).forward(base.model)


def begun(base: Base, method: str, start: Start, **settings: object) -> TrainableAdapter:
    torch.manual_seed(9)
    said = settings | ({"dora": True} if method == "dora" else {"method": method})
    adapter = attach(base, Adapter.model_validate(said), total_steps=10, opening=(5, 6, 7), start=start)
    adapter.peft.eval()
    return adapter


def answers(adapter: TrainableAdapter) -> Tensor:
    with torch.no_grad():
        return CausalScorer(0).collate(QUESTIONS).forward(adapter.model, prefix=adapter.prefix(2))


@pytest.mark.parametrize("rank", [3, 8])
@pytest.mark.parametrize("method", ["lora", "adalora", "dora"])
def test_an_adapter_begins_as_its_start(base: Base, method: str, rank: int) -> None:
    factors = learned(base, 3)
    want = with_stack(base, factors)
    adapter = begun(base, method, Start("x", factors=factors), rank=rank, alpha=5.0)
    torch.testing.assert_close(answers(adapter), want, rtol=1e-3, atol=1e-3)
    adapter.detach()


def test_what_the_start_leaves_free_can_still_learn(base: Base) -> None:
    adapter = begun(base, "lora", Start("x", factors=learned(base, 2)), rank=6)
    CausalScorer(0).collate(QUESTIONS).forward(adapter.model).sum().backward()
    gradients = [weight.grad for name, weight in adapter.peft.named_parameters() if "lora_B" in name]
    assert all(gradient is not None and gradient[:, 2:].abs().max() > 0 for gradient in gradients)
    adapter.detach()


def test_a_prefix_begins_as_its_start(base: Base) -> None:
    config = base.model.config
    size = config.hidden_size // config.num_attention_heads
    prefix = torch.randn(config.num_hidden_layers, 2, config.num_key_value_heads, 6, size)
    adapter = begun(base, "prefix", Start("x", prefix=prefix), virtual_tokens=6)
    given = adapter.prefix(1)
    assert given is not None
    for number, layer in enumerate(given.cache.layers):
        torch.testing.assert_close(layer.keys[0], prefix[number, 0])
        torch.testing.assert_close(layer.values[0], prefix[number, 1])
    adapter.detach()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_from_scratch_the_base_answers(tiny_base: Path, home: Path, method: str, dtype: str) -> None:
    base = load_base(str(tiny_base), home, dtype=dtype)
    with torch.no_grad():
        bare = CausalScorer(0).collate(QUESTIONS).forward(base.model)
    adapter = begun(base, method, Start(), rank=4)
    torch.testing.assert_close(answers(adapter), bare)
    adapter.detach()
