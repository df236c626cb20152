"""Rows of many adapters in one forward: each equals the same row alone, with PEFT's own arithmetic."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from shopfit.adapter.kernels import expand, plan, shrink
from shopfit.adapter.stack import Packed, Stack
from shopfit.base.load import Base, load_base
from shopfit.errors import BaseError

SLOTS, WIDTH = 4, 7
RANKS = {1: 2, 2: 8, 3: 5, 4: 8}
TARGETS: dict[int, Any] = {1: "all-linear", 2: ["q_proj", "v_proj"], 3: ["down_proj", "up_proj"], 4: "all-linear"}
IDS = torch.randint(0, 200, (8, WIDTH), generator=torch.Generator().manual_seed(0))


def _factors(base: Base, slot: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A random LoRA, made by PEFT, with the scale in B."""
    torch.manual_seed(slot)
    peft = get_peft_model(
        base.model, LoraConfig(task_type="CAUSAL_LM", r=RANKS[slot], lora_alpha=12, target_modules=TARGETS[slot])
    )
    found = {}
    for name, layer in peft.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            torch.nn.init.normal_(up, std=0.1)
            found[name] = (down.detach().clone(), up.detach().clone() * layer.scaling["default"])
    peft.unload()
    base.model.__dict__.pop("peft_config", None)
    return found


def _alone(base: Base, factors: dict[str, tuple[torch.Tensor, torch.Tensor]] | None, ids: torch.Tensor) -> torch.Tensor:
    """What PEFT answers with this adapter only."""
    if factors is None:
        with torch.no_grad():
            return base.model(ids).logits  # type: ignore[no-any-return]
    leaves = {name: len(down) for name, (down, _) in factors.items()}
    peft = get_peft_model(
        base.model,
        LoraConfig(
            task_type="CAUSAL_LM", r=max(leaves.values()), lora_alpha=max(leaves.values()), target_modules=list(leaves)
        ),
    )
    for name, layer in peft.get_base_model().named_modules():
        if hasattr(layer, "lora_A"):
            layer.lora_A["default"].weight.data.copy_(factors[name][0])
            layer.lora_B["default"].weight.data.copy_(factors[name][1])
    with torch.no_grad():
        logits = peft(ids).logits
    peft.unload()
    base.model.__dict__.pop("peft_config", None)
    return logits  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def parts(
    tiny_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Base, Stack, dict[int, torch.Tensor], dict[int, Any]]:
    base = load_base(str(tiny_base), tmp_path_factory.mktemp("home"))
    factors = {slot: _factors(base, slot) for slot in RANKS}
    alone = {slot: _alone(base, factors.get(slot), IDS) for slot in (0, *RANKS)}
    stack = Stack(base, SLOTS, rank=2)
    for slot in RANKS:
        stack.put(slot, stack.pack(factors[slot], f"a{slot}"))
    return base, stack, alone, factors


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, SLOTS), min_size=1, max_size=8), decoding=st.booleans())
def test_every_row_of_any_mix_equals_the_row_alone(parts: Any, rows: list[int], decoding: bool) -> None:
    base, stack, alone, _ = parts
    with torch.no_grad(), stack.rows(rows, decoding=decoding):
        mixed = base.model(IDS[: len(rows)]).logits
    for row, slot in enumerate(rows):
        torch.testing.assert_close(mixed[row], alone[slot][row], rtol=1e-4, atol=1e-4)


def test_outside_of_a_step_the_base_is_bare(parts: Any) -> None:
    base, stack, alone, _ = parts
    with torch.no_grad():
        with stack.rows([1] * 8):
            assert not torch.allclose(base.model(IDS).logits, alone[0])
        assert torch.equal(base.model(IDS).logits, alone[0])


@pytest.mark.parametrize("decoding", [False, True])
@pytest.mark.parametrize("others", [[], [3, 1, 4]])
def test_a_slot_holds_nothing_of_the_adapter_before(parts: Any, decoding: bool, others: list[int]) -> None:
    base, stack, alone, factors = parts
    rows = [*others, *[1] * (8 - len(others))]
    for held in (1, 2, 1):
        stack.put(1, stack.pack(factors[held], f"a{held}"))
        with torch.no_grad(), stack.rows(rows, decoding=decoding):
            mixed = base.model(IDS).logits
        for row, slot in enumerate(rows):
            expected = alone[held if slot == 1 else slot][row]
            torch.testing.assert_close(mixed[row], expected, rtol=1e-4, atol=1e-4)


def test_rows_that_write_have_copies_and_those_keep_up_with_the_slots(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home)
    factors = {slot: _factors(base, slot) for slot in RANKS}
    alone = {slot: _alone(base, factors.get(slot), IDS) for slot in (0, *RANKS)}
    stack = Stack(base, 2, rank=2)

    def check(rows: list[int], holds: dict[int, int]) -> None:
        with torch.no_grad(), stack.rows(rows, decoding=True):
            mixed = base.model(IDS[: len(rows)]).logits
        for row, slot in enumerate(rows):
            torch.testing.assert_close(mixed[row], alone[holds[slot]][row], rtol=1e-4, atol=1e-4)

    stack.put(1, stack.pack(factors[1], "a1"))
    check([1, 0, 1], {0: 0, 1: 1})
    stack.put(2, stack.pack(factors[2], "a2"))  # of a larger rank: all slots grow
    check([2, 1, 1, 0, 2], {0: 0, 1: 1, 2: 2})
    stack.put(1, stack.pack(factors[4], "a4"))
    check([2, 1], {1: 4, 2: 2})
    check([1, 1, 2, 0, 1, 2, 1, 1], {0: 0, 1: 4, 2: 2})
    with torch.no_grad():  # as a fleet's training does
        stack.weights[1].copy_(stack.weights[2])
    stack.link()
    check([1, 2, 0, 1], {0: 0, 1: 2, 2: 2})


@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [3, 1, 1, 4], [2, 2, 2, 2], [4, 0, 0, 0]])
def test_gradients_reach_every_adapter_in_the_batch_and_no_other(parts: Any, rows: list[int]) -> None:
    base, stack, _, _ = parts
    stack.weights.requires_grad_()
    stack.link()
    try:
        with stack.rows(rows):
            base.model(IDS[: len(rows)]).logits.square().mean().backward()
        gradient = stack.weights.grad
        assert gradient is not None
        touched = {slot for slot in range(SLOTS + 1) if gradient[slot].any()}
        assert touched == set(rows) - {0}
    finally:
        stack.weights.requires_grad_(requires_grad=False).grad = None
        stack.link()


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantized_bases_serve_too(tiny_base: Path, home: Path, quantization: str) -> None:
    base = load_base(str(tiny_base), home, quantization=quantization)
    factors = {slot: _factors(base, slot) for slot in (1, 2)}
    alone = {slot: _alone(base, factors.get(slot), IDS) for slot in (0, 1, 2)}
    stack = Stack(base, 2, rank=8)
    for slot in (1, 2):
        stack.put(slot, stack.pack(factors[slot], "a"))
    rows = [2, 0, 1, 1, 2, 0, 1, 2]
    with torch.no_grad(), stack.rows(rows):
        mixed = base.model(IDS).logits
    for row, slot in enumerate(rows):
        if quantization == "nf4":
            torch.testing.assert_close(mixed[row], alone[slot][row], rtol=1e-3, atol=1e-3)
            continue
        # int8 rounds a row's numbers by what else is in the batch, with any adapter or none
        away = {other: float((mixed[row] - alone[other][row]).abs().mean()) for other in alone}
        assert away[slot] < 0.25 * min(distance for other, distance in away.items() if other != slot)


@pytest.mark.parametrize("rows", [[0, 1] * 4, [1] * 8, [0, 0, 0, 0, 1, 1, 1, 1]])
def test_encoders_serve_too(rows: list[int]) -> None:
    from types import SimpleNamespace

    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = BertModel(
        BertConfig(vocab_size=200, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    ).eval()
    base: Any = SimpleNamespace(model=model, name="bert", quantization="none", device=torch.device("cpu"))
    stack = Stack(base, 2, rank=4)
    query = "encoder.layer.0.attention.self.query"
    stack.put(1, stack.pack({query: (torch.randn(4, 32), torch.randn(32, 4))}, "a"))
    with torch.no_grad():
        bare = model(IDS).last_hidden_state
        with stack.rows(rows):  # the pooler sees one vector a row
            mixed = model(IDS).last_hidden_state
    for row, slot in enumerate(rows):
        assert torch.allclose(mixed[row], bare[row], rtol=1e-5, atol=1e-5) == (slot == 0)


def test_an_adapter_that_does_not_fit_is_refused(parts: Any) -> None:
    _, stack, _, _ = parts
    with pytest.raises(BaseError, match=r"h\.9\.attn"):
        stack.pack({"h.9.attn": (torch.zeros(2, 64), torch.zeros(64, 2))}, "acme/x@1")
    with pytest.raises(BaseError, match=r"shape \(2, 63\)"):
        stack.pack({"model.layers.0.self_attn.q_proj": (torch.zeros(2, 63), torch.zeros(64, 2))}, "acme/x@1")


@pytest.mark.parametrize(
    ("rows", "way"),
    [
        ([0, 0], "bare"),
        ([3, 3, 3], "one"),
        ([1, 2, 3], "grid"),
        ([0, 0, 1, 1, 2, 2], "grid"),
        ([3, 1, 2], "rows"),
        ([1, 3], "rows"),
        ([1, 1, 1, 1, 1, 1, 1, 2], "rows"),
        ([1, 40], "rows"),
    ],
)
def test_the_cheapest_way_is_planned(rows: Sequence[int], way: str) -> None:
    assert plan(rows).way == way


@pytest.mark.parametrize("way", ["grid", "rows"])
def test_the_ways_agree(way: str) -> None:
    torch.manual_seed(0)
    down, up = torch.randn(4, 3, 5), torch.randn(4, 3, 6)
    rows = [1, 1, 2, 2, 3, 3] if way == "grid" else [1, 1, 1, 3]
    step = plan(rows)
    assert step.way == way
    x, out = torch.randn(len(rows), 2, 5), torch.randn(len(rows), 2, 6)
    expected = torch.stack([o + a @ down[s].T @ up[s] for o, a, s in zip(out, x, rows, strict=True)])
    torch.testing.assert_close(expand(out.clone(), shrink(x, down, step), up, step), expected)


def test_a_packed_adapter_is_one_stretch_of_memory(parts: Any) -> None:
    _, stack, _, factors = parts
    packed = stack.pack(factors[4], "a4")
    assert isinstance(packed, Packed)
    assert packed.flat.shape == (stack.size(8),)
