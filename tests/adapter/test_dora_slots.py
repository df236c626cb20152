"""DoRA in the slots of a stack: each row as PEFT alone answers it, and every other row as if it were not there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from tests.base.tiny import save_tiny
from tests.solo import Factors, learned

from shopfit.adapter.stack import Packed, Stack
from shopfit.adapter.trainable import attach
from shopfit.adapter.weight_files import CONFIG, NORM_SCALES, WEIGHTS, read_dora
from shopfit.adapter.weights import Dora
from shopfit.base.load import Base, load_base
from shopfit.errors import BaseError, BundleError, RecipeError
from shopfit.recipe.adapter_section import Adapter

IDS = torch.randint(5, 200, (8, 7), generator=torch.Generator().manual_seed(0))
RANKS = {1: 2, 2: 5, 3: 8, 4: 3}
DORA = {2, 4}  # slots


@dataclass(frozen=True)
class Trained:
    dora: Dora
    native: Path

    def packed(self, stack: Stack) -> Packed:
        return stack.pack(self.dora.factors, "x", self.dora.norm_scales)


def trained(base: Base, folder: Path, seed: int, **more: Any) -> Trained:
    """A DoRA adapter with random numbers, none of which could be left out."""
    torch.manual_seed(seed)
    adapter = attach(base, Adapter(dora=True, alpha=12, **more), total_steps=1, opening=(5, 6))
    with torch.no_grad():
        for name, weight in adapter.peft.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
            elif "magnitude" in name:
                weight.mul_(1 + 0.4 * torch.rand_like(weight))
    adapter.save(folder)
    adapter.detach()
    content, config, scales = ((folder / name).read_bytes() for name in (WEIGHTS, CONFIG, NORM_SCALES))
    return Trained(Dora(*read_dora(content, WEIGHTS, config, scales)), folder)


def output(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(ids)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state  # type: ignore[no-any-return]


def alone(base: Base, native: Path, ids: torch.Tensor = IDS) -> torch.Tensor:
    """What PEFT answers with the folder."""
    peft = PeftModel.from_pretrained(base.model, native, autocast_adapter_dtype=base.quantization != "none").eval()
    found = output(peft.get_base_model(), ids)
    peft.unload()
    base.model.__dict__.pop("peft_config", None)
    return found


def mixed(base: Base, stack: Stack, rows: Sequence[int], *, decoding: bool = False) -> torch.Tensor:
    with stack.rows(rows, decoding=decoding):
        return output(base.model, IDS[: len(rows)])


def with_lora(base: Base, factors: Factors, rank: int) -> torch.Tensor:
    stack = Stack(base, 1, rank=rank)
    stack.put(1, stack.pack(factors, "x"))
    return mixed(base, stack, [1] * 8)


@dataclass(frozen=True)
class Parts:
    base: Base
    stack: Stack
    alone: dict[int, torch.Tensor]
    adapters: dict[int, Trained]


@pytest.fixture(scope="module")
def parts(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = tmp_path_factory.mktemp("dora")
    base = load_base(str(tiny_base), folder / "home")
    stack, answers, adapters = Stack(base, 4, rank=2), {0: output(base.model, IDS)}, {}
    for slot, rank in RANKS.items():
        if slot in DORA:
            targets: Any = ["q_proj", "v_proj", "down_proj"] if slot == 4 else "all-linear"
            adapters[slot] = trained(base, folder / str(slot), slot, rank=rank, targets=targets, rslora=slot == 4)
            stack.put(slot, adapters[slot].packed(stack))
            answers[slot] = alone(base, adapters[slot].native)
        else:
            factors = learned(base, rank, slot)
            stack.put(slot, stack.pack(factors, "x"))
            answers[slot] = with_lora(base, factors, rank)
    return Parts(base, stack, answers, adapters)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=8), decoding=st.booleans())
def test_every_row_of_any_mix_is_pefts_alone(parts: Parts, rows: list[int], decoding: bool) -> None:
    found = mixed(parts.base, parts.stack, rows, decoding=decoding)
    for row, slot in enumerate(rows):
        torch.testing.assert_close(found[row], parts.alone[slot][row], rtol=1e-4, atol=1e-4)


def test_the_adapters_differ_from_lora_with_the_same_factors(parts: Parts) -> None:
    for slot, adapter in parts.adapters.items():
        without = with_lora(parts.base, dict(adapter.dora.factors), RANKS[slot])
        assert (without - parts.alone[slot]).abs().max() > 0.1


@pytest.mark.parametrize("decoding", [False, True])
@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [2, 1, 0, 3, 1], [0, 1, 4, 4, 3, 0, 2, 1], [0, 2], [3, 3, 4, 4]])
def test_other_rows_are_bit_for_bit_those_beside_lora(parts: Parts, rows: list[int], decoding: bool) -> None:
    """The same weights in the same slots, once with DoRA's factors and once without."""
    base, stacks = parts.base, [Stack(parts.base, 4), Stack(parts.base, 4)]
    for slot, rank in RANKS.items():
        for with_dora, stack in enumerate(stacks):
            if slot in DORA:
                dora = parts.adapters[slot].dora
                stack.put(slot, stack.pack(dora.factors, "x", dora.norm_scales if with_dora else None))
            else:
                stack.put(slot, stack.pack(learned(base, rank, slot), "x"))
    without, found = (mixed(base, stack, rows, decoding=decoding) for stack in stacks)
    for row, slot in enumerate(rows):
        assert torch.equal(without[row], found[row]) == (slot not in DORA)


def test_a_slot_holds_nothing_of_the_adapter_before(parts: Parts) -> None:
    base, dora, lora = parts.base, parts.adapters[2], learned(parts.base, 3, 1)
    stack = Stack(base, 2, rank=2)
    want = with_lora(base, lora, 3)
    for _ in range(2):
        stack.put(1, dora.packed(stack))
        torch.testing.assert_close(mixed(base, stack, [1] * 8), parts.alone[2], rtol=1e-4, atol=1e-4)
        stack.put(2, stack.pack(learned(base, 20, 5), "large"))  # slots grow, and shrink again
        found = mixed(base, stack, [0, 1] * 4)
        torch.testing.assert_close(found[1::2], parts.alone[2][1::2], rtol=1e-4, atol=1e-4)
        stack.take_out(2)
        torch.testing.assert_close(mixed(base, stack, [1] * 8), parts.alone[2], rtol=1e-4, atol=1e-4)
        stack.put(1, stack.pack(lora, "x"))
        torch.testing.assert_close(mixed(base, stack, [1] * 8), want, rtol=1e-4, atol=1e-4)
        stack.put(1, dora.packed(stack))
        stack.take_out(1)
        assert torch.equal(mixed(base, stack, [1] * 8), parts.alone[0])


def test_gradients_pass_through_dora_to_the_others(parts: Parts) -> None:
    stack = parts.stack
    stack.train()
    with stack.rows([1, 2, 0, 4]):
        found = parts.base.model(IDS[:4]).logits
    for row, slot in enumerate([1, 2, 0, 4]):
        torch.testing.assert_close(found[row], parts.alone[slot][row], rtol=1e-4, atol=1e-4)
    found.square().mean().backward()
    assert {slot for slot in range(5) if stack.gradients[0][slot].any()} == {1, 2, 4}


@pytest.mark.parametrize(
    ("kind", "loader"),
    [
        ("gpt2", "AutoModelForCausalLM"),
        ("opt", "AutoModelForCausalLM"),
        ("bert", "AutoModel"),
        ("qwen2", "AutoModelForCausalLM"),
    ],
)
def test_layers_with_biases_and_weights_the_other_way_round(kind: str, loader: str, tmp_path: Path, home: Path) -> None:
    base = load_base(str(save_tiny(tmp_path / "base", kind, loader, vocab_size=401)), home)
    adapter = trained(base, tmp_path / "native", 3, rank=3)
    bare, want, stack = output(base.model, IDS), alone(base, adapter.native), Stack(base, 2)
    assert (bare - want).abs().max() > 0.1
    stack.put(1, adapter.packed(stack))
    for rows in ([1] * 8, [0, 1] * 4, [1, 0, 0, 0, 0, 0, 0, 1]):
        found = mixed(base, stack, rows)
        for row, slot in enumerate(rows):
            torch.testing.assert_close(found[row], (bare, want)[slot][row], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantized_bases_serve_it_by_their_dequantized_weights(
    tiny_base: Path, tmp_path: Path, home: Path, quantization: str
) -> None:
    base = load_base(str(tiny_base), home, quantization=quantization)
    if quantization == "int8":  # PEFT alone cannot, so it is trained on the base in float32
        plain = load_base(str(tiny_base), home)
        adapter = trained(plain, tmp_path / "native", 3, rank=3)
        bare, want, stack = output(base.model, IDS), alone(plain, adapter.native), Stack(base, 1)
    else:
        adapter = trained(base, tmp_path / "native", 3, rank=3)
        bare, want, stack = output(base.model, IDS), alone(base, adapter.native), Stack(base, 1)
    stack.put(1, adapter.packed(stack))
    rows = [1, 0, 0, 1, 1, 0, 1, 0]
    found = mixed(base, stack, rows)
    for row, slot in enumerate(rows):
        if quantization == "nf4":
            torch.testing.assert_close(found[row], (bare, want)[slot][row], rtol=1e-3, atol=1e-3)
        else:  # int8 rounds a row's numbers by what else is in the batch, with any adapter or none
            away = [float((found[row] - other[row]).abs().mean()) for other in (bare, want)]
            assert away[slot] < 0.25 * away[1 - slot]


def test_on_int8_it_is_refused_before_the_base_is_touched(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home, quantization="int8")
    before = output(base.model, IDS)
    with pytest.raises(RecipeError, match=r"(?s)DoRA does not work on .* in int8.*--set quantization=nf4"):
        attach(base, Adapter(dora=True), total_steps=1, opening=(5,))
    assert torch.equal(output(base.model, IDS), before)


def test_outputs_that_are_always_zero_are_refused_and_leave_the_base_free(base: Base) -> None:
    weight = base.model.model.layers[1].mlp.up_proj.weight
    with torch.no_grad():
        weight[3] = 0
    with pytest.raises(RecipeError, match=r"model\.layers\.1\.mlp\.up_proj .* all zero"):
        attach(base, Adapter(dora=True), total_steps=1, opening=(5,))
    attach(base, Adapter(), total_steps=1, opening=(5,)).detach()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_bases_of_half_precision_serve_it(tiny_base: Path, tmp_path: Path, home: Path, dtype: str) -> None:
    base = load_base(str(tiny_base), home, dtype=dtype)
    adapter = trained(base, tmp_path / "native", 3, rank=3)
    bare, want, stack = output(base.model, IDS), alone(base, adapter.native), Stack(base, 1)
    stack.put(1, adapter.packed(stack))
    rows = [1, 0, 0, 1, 1, 0, 1, 0]
    found = mixed(base, stack, rows)
    for row, slot in enumerate(rows):
        away = [float((found[row] - other[row]).abs().mean()) for other in (bare, want)]
        assert away[slot] < 0.1 * away[1 - slot]


def test_memory_is_counted_and_taken_for_dora_alone(parts: Parts) -> None:
    stack = parts.stack
    lora, dora = stack.pack(learned(parts.base, 5), "x"), parts.adapters[2].packed(stack)
    assert lora.beyond is None
    assert dora.beyond is not None
    outs = sum(layer.out_features for name, layer in parts.base.model.named_modules() if name.endswith("_proj"))
    assert dora.beyond.shape == (outs,)
    assert dora.bytes == lora.bytes + 4 * outs


@pytest.mark.parametrize(
    ("scales", "error", "message"),
    [
        (torch.ones(5), BaseError, r"of shape \(5,\) for model\.layers\.0\.self_attn\.q_proj, which has 64 outputs"),
        (torch.full((64,), float("nan")), BundleError, "not finite in float32"),
        (torch.full((64,), float("inf")), BundleError, "not finite in float32"),
        (torch.full((64,), 3e38), BundleError, "not finite in float32"),
    ],
)
def test_factors_that_could_reach_other_rows_are_refused(
    parts: Parts, scales: torch.Tensor, error: type[Exception], message: str
) -> None:
    layer = "model.layers.0.self_attn.q_proj"
    with pytest.raises(error, match=message):
        parts.stack.pack({layer: (torch.ones(2, 64), torch.ones(64, 2))}, "acme/x@1", {layer: scales})
