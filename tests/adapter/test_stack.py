"""Rows of many adapters in one forward: each equals the same row alone, with PEFT's own arithmetic."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from shopfit.adapter.kernels import expand, plan, shrink
from shopfit.adapter.stack import Packed, Stack, rank_note
from shopfit.adapter.trainable import attach
from shopfit.base.load import Base, load_base
from shopfit.errors import BaseError, BundleError
from shopfit.recipe.adapter_section import Adapter

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


@pytest.fixture(scope="module")
def tiny(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(str(tiny_base), tmp_path_factory.mktemp("home"))


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
        stack.weights[0][1].copy_(stack.weights[0][2])
    stack.link()
    check([1, 2, 0, 1], {0: 0, 1: 2, 2: 2})


@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [3, 1, 1, 4], [2, 2, 2, 2], [4, 0, 0, 0]])
def test_gradients_reach_every_adapter_in_the_batch_and_no_other(parts: Any, rows: list[int]) -> None:
    base, _, _, factors = parts
    stack = Stack(base, SLOTS, rank=2)
    for slot in RANKS:
        stack.put(slot, stack.pack(factors[slot], f"a{slot}"))
    stack.train()
    with stack.rows(rows):
        base.model(IDS[: len(rows)]).logits.square().mean().backward()
    gradient = stack.gradients[0]
    touched = {slot for slot in range(SLOTS + 1) if gradient[slot].any()}
    assert touched == set(rows) - {0}


@pytest.mark.parametrize("rows", [[1, 2, 3, 4], [3, 1, 1, 4], [2, 2, 2, 2]])
def test_rows_have_scales_of_their_own(parts: Any, rows: list[int]) -> None:
    base, stack, _, factors = parts
    halved = Stack(base, SLOTS, rank=8)
    for slot, weights in factors.items():
        half = {name: (down, up / (1 + slot)) for name, (down, up) in weights.items()}
        halved.put(slot, halved.pack(half, f"a{slot}"))
    with torch.no_grad():
        with halved.rows(rows, scales=[1.0 + slot for slot in rows]):
            found = base.model(IDS[: len(rows)]).logits
        with stack.rows(rows):
            torch.testing.assert_close(found, base.model(IDS[: len(rows)]).logits, rtol=1e-4, atol=1e-4)


def test_what_a_slot_holds_can_be_read_back(parts: Any) -> None:
    _, stack, _, factors = parts
    found = stack.factors(stack.weights[0][2])
    for name, (down, up) in factors[2].items():
        assert torch.equal(found[name][0], down)
        assert torch.equal(found[name][1], up)


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
        # a last bit may round an input of a later layer to the next integer
        away = {other: float((mixed[row] - alone[other][row]).abs().mean()) for other in alone}
        assert away[slot] < 0.05 * min(distance for other, distance in away.items() if other != slot)


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
    assert plan(rows).layout == way


@pytest.mark.parametrize("way", ["grid", "rows"])
def test_the_ways_agree(way: str) -> None:
    torch.manual_seed(0)
    down, up = torch.randn(4, 3, 5), torch.randn(4, 3, 6)
    rows = [1, 1, 2, 2, 3, 3] if way == "grid" else [1, 1, 1, 3]
    step = plan(rows)
    assert step.layout == way
    x, out = torch.randn(len(rows), 2, 5), torch.randn(len(rows), 2, 6)
    expected = torch.stack([o + a @ down[s].T @ up[s] for o, a, s in zip(out, x, rows, strict=True)])
    torch.testing.assert_close(expand(out.clone(), shrink(x, down, step), up, step), expected)


def test_a_packed_adapter_is_one_stretch_of_memory(parts: Any) -> None:
    _, stack, _, factors = parts
    packed = stack.pack(factors[4], "a4")
    assert isinstance(packed, Packed)
    assert packed.flat.shape == (stack.size(8),)


def _random(base: Base, rank: int, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    return {
        name: (torch.randn(rank, layer.in_features) / 8, torch.randn(layer.out_features, rank) / 8)
        for name, layer in base.model.named_modules()
        if name.endswith("_proj")
    }


def _forward(stack: Stack, base: Base, rows: Sequence[int]) -> torch.Tensor:
    with torch.no_grad(), stack.rows(rows):
        return base.model(IDS[: len(rows)]).logits  # type: ignore[no-any-return]


def test_an_adapter_of_too_high_a_rank_is_refused_alone(base: Base) -> None:
    stack = Stack(base, 2, rank=2, max_rank=16)
    stack.put(1, stack.pack(_random(base, 2), "small"))
    before, size = _forward(stack, base, [1, 0]), stack.weights[0].shape
    with pytest.raises(BundleError, match=r"acme/x@1 has rank 17 \(allowed here: 1 to 16, max_rank") as refused:
        stack.pack(_random(base, 17), "acme/x@1")
    assert "max_rank=17" in str(refused.value)
    assert stack.weights[0].shape == size
    assert torch.equal(_forward(stack, base, [1, 0]), before)
    stack.put(2, stack.pack(_random(base, 16), "fits"))


def test_an_engine_takes_no_more_than_rank_64_unless_it_is_told_to(base: Base) -> None:
    with pytest.raises(BundleError, match="rank 65"):
        Stack(base, 1).pack(_random(base, 65), "x")
    assert Stack(base, 1, max_rank=256).pack(_random(base, 256), "x").rank == 256


@pytest.mark.parametrize("leave", ["replaced", "taken out"])
def test_slots_are_as_large_as_what_lies_in_them_and_no_larger(base: Base, leave: str) -> None:
    stack, small, large = Stack(base, 3, rank=2), _random(base, 2, 1), _random(base, 40, 2)
    stack.put(1, stack.pack(small, "small"))
    alone = _forward(stack, base, [1, 1])
    for _ in range(2):
        stack.put(2, stack.pack(large, "large"))
        assert stack.weights[0].shape[1] == stack.size(40)
        torch.testing.assert_close(_forward(stack, base, [1, 2])[0], alone[0], rtol=1e-4, atol=1e-4)
        if leave == "replaced":
            stack.put(2, stack.pack(small, "small too"))
        else:
            stack.take_out(2)
        assert stack.weights[0].shape[1] == stack.size(2)
        other = alone[1] if leave == "replaced" else _forward(stack, base, [0, 0])[1]
        torch.testing.assert_close(_forward(stack, base, [1, 2])[1], other, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(_forward(stack, base, [1, 2])[0], alone[0], rtol=1e-4, atol=1e-4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([0, 1, 2, 3, 5, 9, 20])), min_size=1, max_size=8))
def test_whatever_comes_and_goes_each_slot_holds_its_adapter(tiny: Base, steps: list[tuple[int, int]]) -> None:
    stack, alone, held = Stack(tiny, 3, rank=2), Stack(tiny, 1, rank=20), [0, 0, 0, 0]
    for slot, rank in steps:
        held[slot] = rank
        if rank:
            stack.put(slot, stack.pack(_random(tiny, rank, slot), "x"))
        else:
            stack.take_out(slot)
        assert stack.rank < 2 * max(2, *held)
    mixed = _forward(stack, tiny, [0, 1, 2, 3])
    for slot in (1, 2, 3):
        alone.put(1, alone.pack(_random(tiny, max(held[slot], 1), slot), "x"))
        expected = _forward(alone, tiny, [int(held[slot] > 0)] * 4)
        torch.testing.assert_close(mixed[slot], expected[slot], rtol=1e-4, atol=1e-4)


def test_two_stacks_on_one_base_and_the_bare_base_beside_them_from_several_threads(base: Base) -> None:
    stacks = [Stack(base, 1), Stack(base, 1)]
    for seed, stack in enumerate(stacks):
        stack.put(1, stack.pack(_random(base, 4, seed), "x"))
    with torch.no_grad():
        bare = base.model(IDS).logits
    right, wrong = [_forward(stack, base, [1] * 8) for stack in stacks], []
    go = threading.Barrier(3)

    def ask(which: int) -> None:
        go.wait(60)
        for _ in range(40):
            if which == 2:
                with torch.no_grad():
                    got, want = base.model(IDS).logits, bare
            else:
                got, want = _forward(stacks[which], base, [1] * 8), right[which]
            if not torch.allclose(got, want, rtol=1e-4, atol=1e-4):
                wrong.append(which)

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_a_base_with_an_adapter_in_training_answers_nobody_else(base: Base, method: str) -> None:
    stack, settings_ = Stack(base, 1), Adapter(method=method, rank=2)  # type: ignore[arg-type]
    stack.put(1, stack.pack(_random(base, 2), "x"))
    before = _forward(stack, base, [1, 0])
    adapter = attach(base, settings_, total_steps=3, opening=(5, 6, 7))
    for rows in ([1, 0], [0, 0]):
        with pytest.raises(BaseError, match="in training"):
            _forward(stack, base, rows)
    with pytest.raises(BaseError, match="in training"):
        attach(base, settings_, total_steps=3, opening=(5, 6, 7))
    adapter.detach()
    assert torch.equal(_forward(stack, base, [1, 0]), before)
    with stack.rows([1]), pytest.raises(BaseError, match="in the middle of a forward"):
        attach(base, settings_, total_steps=3, opening=(5, 6, 7))
    with stack.rows([1]), pytest.raises(BaseError, match="in the middle"), Stack(base, 1).rows([1]):
        pass
    assert torch.equal(_forward(stack, base, [1, 0]), before)


def test_a_recipe_that_engines_do_not_serve_by_default_says_so() -> None:
    assert rank_note(Adapter(rank=64)) == ""
    assert rank_note(Adapter(method="prefix", rank=256)) == ""
    assert rank_note(Adapter(rank=65)).endswith("max_rank=65")
    assert rank_note(Adapter(method="adalora", rank=48)).endswith("max_rank=72")
