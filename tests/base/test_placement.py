"""Bases whose blocks lie on several devices. `cpu` and `cpu:0` are two names of one device, so that all numbers can be
compared here; that nothing is left on a wrong one is shown with tensors that are on GPUs without numbers.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.test_families import trained
from tests.conftest import make_tiny_base
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from shopfit.adapter.stack import Stack
from shopfit.base.load import Base, load_base
from shopfit.base.placement import _shared_out, block_devices, device_of, spread
from shopfit.engine import ChooseRequest, Engine, GenerateRequest, Tenant
from shopfit.errors import BaseError

TWO = {"": "cpu", "model.layers.1": "cpu:0"}


@pytest.fixture
def bases(tmp_path: Path, home: Path) -> tuple[Base, Base]:
    """The same base on one device and on two."""
    folder = make_tiny_base(tmp_path / "base", seed=5)
    return load_base(str(folder), home, device="cpu"), load_base(str(folder), home, device_map=TWO)


def test_blocks_are_where_they_were_asked_to_be(bases: tuple[Base, Base]) -> None:
    one, two = bases
    assert (block_devices(one.model), two.placed) == ([], True)
    assert [str(device) for device in block_devices(two.model)] == ["cpu", "cpu:0"]
    assert str(device_of(two.model, "model.layers.1.mlp.up_proj")) == "cpu:0"
    assert str(device_of(two.model, "model.layers.10.mlp.up_proj")) == "cpu"
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(two.model(ids).logits, one.model(ids).logits)
    assert len(Stack(two, 2).weights) == 2
    assert len(Stack(one, 2).weights) == 1


def test_an_engine_answers_as_on_one_device(bases: tuple[Base, Base], tmp_path: Path) -> None:
    """Bare and adapted rows of every method side by side, scored and written."""
    one, two = bases
    methods = ("lora", "adalora", "prefix")
    tenants = {
        (task, method): Tenant.of(trained(one, task, method, seed, tmp_path / f"{task}-{method}"))
        for task in ("choose", "generate")
        for seed, method in enumerate(methods)
    }
    asked: list[Any] = [
        ChooseRequest(tenant, {"text": text}) if task == "choose" else GenerateRequest(tenant, {"input": text})
        for text in ("lovely crema, and the delivery was quick", "cracked")
        for (task, _), tenant in tenants.items()
    ]
    answers = []
    for base in (one, two):
        with Engine(base, slots=4, rows=3) as engine:
            answers.append(engine.answer(asked))
    for mine, theirs in zip(*answers, strict=True):
        if hasattr(mine, "probabilities"):
            assert mine.probabilities == pytest.approx(theirs.probabilities, abs=1e-5)
        else:
            assert mine.text == theirs.text
    assert len({str(getattr(answer, "probabilities", answer)) for answer in answers[0]}) > len(methods)


def test_adapters_come_and_go_in_every_part(bases: tuple[Base, Base]) -> None:
    ids = torch.tensor([[5, 6, 7, 8], [9, 8, 7, 6], [1, 2, 3, 4]])
    stacks = [Stack(base, 3, rank=2) for base in bases]

    def factors(base: Base, rank: int, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return {
            name: (
                torch.randn(rank, layer.in_features, generator=generator) / 8,
                torch.randn(layer.out_features, rank, generator=generator) / 8,
            )
            for name, layer in base.model.named_modules()
            if isinstance(layer, torch.nn.Linear) and name != "lm_head"
        }

    def same(rows: list[int], *, decoding: bool = False) -> None:
        outputs = []
        for base, stack in zip(bases, stacks, strict=True):
            part = ids[:, :1] if decoding else ids
            with torch.no_grad(), stack.rows(rows, decoding=decoding):
                outputs.append(base.model(part).logits)
        torch.testing.assert_close(outputs[0], outputs[1])

    for slot, rank in ((1, 2), (2, 7), (3, 3)):
        for base, stack in zip(bases, stacks, strict=True):
            stack.put(slot, stack.pack(factors(base, rank, slot), f"a{slot}"))
        same([slot, 0, 1])
    same([3, 1, 2])
    same([3, 1, 2], decoding=True)
    for stack in stacks:
        stack.take_out(2)  # the rank falls
        assert stack.rank == 3
    same([3, 1, 0])
    same([1, 1, 1])


def test_blocks_bring_what_they_read_to_their_device_and_the_last_one_brings_it_back() -> None:
    """On two GPUs that have no numbers; without a GPU no tensor there can be sliced, so blocks do nothing here."""
    config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    read: list[set[str]] = []

    def block(states: Any, **more: Any) -> Any:
        parts = [states, more["attention_mask"], more["position_ids"], *more["position_embeddings"]]
        read.append({str(part.device) for part in parts})
        return states

    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = LlamaForCausalLM(config).eval()
        spread("fake", model, {"": "cuda:0", "model.layers.1": "cuda:1", "model.layers.2": "cuda:1"})
        where = {name: str(weight.device) for name, weight in model.named_parameters()}
        assert {name: place for name, place in where.items() if place == "cuda:1"}.keys() == {
            name for name in where if name.startswith(("model.layers.1.", "model.layers.2."))
        }
        assert set(where.values()) == {"cuda:0", "cuda:1"}
        for layer in model.model.layers:
            layer.forward = block
        model.model.rotary_emb.forward = lambda states, position_ids: (states, position_ids)
        ids = torch.zeros(2, 5, dtype=torch.long, device="cuda:0")
        seen = torch.ones(2, 1, 5, 5, dtype=torch.bool, device="cuda:0")
        output = model.model(input_ids=ids, attention_mask=seen, position_ids=ids, use_cache=False)
        assert str(output.last_hidden_state.device) == "cuda:0"
    assert read == [{"cuda:0"}, {"cuda:1"}, {"cuda:1"}]


@pytest.mark.parametrize(
    ("device_map", "wanted"),
    [
        ({"model": "cpu"}, "nowhere: no place for lm_head"),
        ({"": "cpu", "model.layers.0.mlp": "cpu:0"}, "apart within a block: model.layers.0.mlp"),
        ({"": "cpu", "lm_head": "cpu:0"}, "on several devices beside its blocks: .* one for all but the blocks"),
        ({"": "disk"}, "on 'disk' .allowed: cpu, a GPU such as cuda:1, or its number"),
        ({"": "meta"}, "on 'meta' .allowed"),
        ("balanced", "at 'balanced' .allowed: auto"),
        ({"": 7}, "where it cannot go: "),
    ],
)
def test_places_that_are_none(device_map: Any, wanted: str, tmp_path: Path, home: Path) -> None:
    folder = make_tiny_base(tmp_path / "base", seed=5)
    with pytest.raises(BaseError, match=wanted) as refused:
        load_base(str(folder), home, device_map=device_map)
    assert 'device_map="auto"' in str(refused.value.next_step)


def test_what_is_read_otherwise_stays_on_one_device(tiny_encoder: Path, tmp_path: Path, home: Path) -> None:
    with pytest.raises(BaseError, match="on several devices"):
        load_base(str(tiny_encoder), home, device_map={"": "cpu", "encoder.layer.1": "cpu:0"})
    assert load_base(str(tiny_encoder), home, device_map="auto").placed


def test_blocks_are_shared_out_by_free_memory() -> None:
    one, two = torch.device("cuda:0"), torch.device("cuda:1")
    assert _shared_out([one, two], [8, 8], [1] * 10, 2) == [one] * 4 + [two] * 6
    assert _shared_out([one, two], [4, 12], [1] * 10, 2) == [one] * 1 + [two] * 9
    assert _shared_out([one], [8], [1] * 3, 2) == [one] * 3
