"""Each method attaches, learns, saves and detaches, and the base is as it was."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.solo import wearing

from shopfit.adapter.bundle import LORA, NATIVE, BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.stack import Stack
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.adapter.weight_files import NORM_SCALES, WEIGHTS, write_served
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base, load_base
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.errors import BaseError, RecipeError
from shopfit.recipe.adapter_section import Adapter

METHODS = ["lora", "adalora", "prefix", "dora"]
QUESTIONS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23, 24), (25, 26)))]
STEPS = 12
OPENING = (5, 6, 7, 8)


def answers(adapter: TrainableAdapter) -> torch.Tensor:
    return CausalScorer(0).collate(QUESTIONS).forward(adapter.model, prefix=adapter.prefix(2))


def settings_of(method: str, **more: object) -> Adapter:
    return Adapter.model_validate({"rank": 4} | ({"dora": True} if method == "dora" else {"method": method}) | more)


def trained(base: Base, method: str, **more: object) -> TrainableAdapter:
    torch.manual_seed(3)
    adapter = attach(base, settings_of(method, **more), total_steps=STEPS, opening=OPENING)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=0.02)
    for step in range(1, STEPS + 1):
        (-answers(adapter).sum() + adapter.penalty()).backward()
        optimizer.step()
        adapter.after_step(step)
        optimizer.zero_grad()
    adapter.peft.eval()
    return adapter


def bundle_of(adapter: TrainableAdapter, method: str, folder: Path) -> Bundle:
    adapter.save(folder / NATIVE)
    settings = settings_of(method)
    rank = write_served(folder / NATIVE, folder / LORA, settings)
    manifest = Manifest(
        schema=1,
        merchant="acme",
        recipe="r",
        recipe_snapshot={},
        base=BaseIdentity(name=adapter.base.name, fingerprint=adapter.base.fingerprint),
        data=DataIdentity(digest="", train=[], valid=[], test=[]),
        seed=1,
        method=settings.method,
        rank=rank,
        trainable_parameters=1,
        steps=1,
        libraries={},
    )
    return seal(folder, manifest)


@pytest.mark.parametrize("method", METHODS)
def test_training_raises_the_answers_and_detaching_restores_the_base(base: Base, method: str) -> None:
    with torch.no_grad():
        before = CausalScorer(0).collate(QUESTIONS).forward(base.model)
    adapter = trained(base, method)
    with torch.no_grad():
        after = answers(adapter)
    assert after.sum() > before.sum() + 1
    adapter.detach()
    with torch.no_grad():
        assert torch.equal(CausalScorer(0).collate(QUESTIONS).forward(base.model), before)
    assert not any(weight.requires_grad for weight in base.model.parameters())


def test_a_look_that_fails_leaves_the_weights_where_they_were(base: Base) -> None:
    adapter = trained(base, "lora")
    end, origin = adapter.state(), [torch.zeros_like(weight) for weight in adapter.state()]

    def look() -> None:
        with adapter.interpolated(origin, 0.5):
            assert not all(map(torch.equal, adapter.state(), end))
            raise RuntimeError("no metric")

    with pytest.raises(RuntimeError, match="no metric"):
        look()
    assert all(map(torch.equal, adapter.state(), end))
    adapter.detach()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_on_a_base_of_half_precision_the_adapter_is_trained_and_kept_in_float32(
    tiny_base: Path, home: Path, method: str, dtype: str, tmp_path: Path
) -> None:
    base = load_base(str(tiny_base), home, dtype=dtype)
    with torch.no_grad():
        before = CausalScorer(0).collate(QUESTIONS).forward(base.model)
    adapter = trained(base, method)
    assert {weight.dtype for weight in adapter.parameters()} == {torch.float32}
    with torch.no_grad():
        assert answers(adapter).sum() > before.sum() + 1
    adapter.save(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / WEIGHTS).values()} == {torch.float32}
    assert (tmp_path / NORM_SCALES).exists() == (method == "dora")
    adapter.detach()
    assert base.dtype == dtype
    assert {str(weight.dtype) for weight in base.model.parameters()} == {f"torch.{dtype}"}
    with torch.no_grad():
        assert torch.equal(CausalScorer(0).collate(QUESTIONS).forward(base.model), before)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_answers_as_the_trained_one(base: Base, method: str, tmp_path: Path) -> None:
    adapter = trained(base, method)
    with torch.no_grad():
        wanted = answers(adapter)
    bundle = bundle_of(adapter, method, tmp_path / "bundle")
    adapter.detach()
    with wearing(base, bundle) as worn, torch.no_grad():
        got = CausalScorer(0).collate(QUESTIONS).forward(worn.model, prefix=worn.prefix(2))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_adalora_ends_within_its_budget(base: Base, tmp_path: Path) -> None:
    adapter = trained(base, "adalora", init_rank=8)
    assert not adapter.settled(1)
    assert adapter.settled(STEPS)
    kept = [int((weight != 0).sum()) for name, weight in adapter.peft.named_parameters() if "lora_E" in name]
    assert sum(kept) <= 4 * len(kept)
    assert max(kept) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_part_of_the_way_lies_between_start_and_end(base: Base, method: str) -> None:
    adapter = trained(base, method, init_rank=8 if method == "adalora" else None)
    end = adapter.state()
    origin = [torch.full_like(weight, 0.5) for weight in end]
    adapter.interpolate(origin, 1)
    assert all(map(torch.equal, adapter.state(), end))
    adapter.interpolate(origin, 0.25)
    for before, after, between in zip(origin, end, adapter.state(), strict=True):
        wanted = torch.where(after == 0, 0, 0.75 * before + 0.25 * after)  # what was pruned stays pruned
        torch.testing.assert_close(between, wanted)
    adapter.detach()


def test_a_prefix_starts_from_tokens(base: Base) -> None:
    ways = []
    for opening in (OPENING, (9, 10, 11)):
        torch.manual_seed(0)
        adapter = attach(base, Adapter(method="prefix", virtual_tokens=24), total_steps=1, opening=opening)
        ways.append(next(adapter.parameters()).detach().clone())
        adapter.detach()
    assert not torch.equal(ways[0], ways[1])


def test_a_restored_state_is_bitwise_the_same(base: Base) -> None:
    adapter = trained(base, "lora")
    state, before = adapter.state(), answers(adapter).detach()
    with torch.no_grad():
        for weight in adapter.parameters():
            weight.add_(1)
    adapter.restore(state)
    assert torch.equal(answers(adapter).detach(), before)
    adapter.detach()


@pytest.mark.parametrize("failing", ["layers", "weights"])
def test_what_fails_while_an_adapter_is_put_on_leaves_the_base_bare_and_free(
    base: Base, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with torch.no_grad():
        before = CausalScorer(0).collate(QUESTIONS).forward(base.model)
    start = None
    if failing == "layers":  # as where there is no memory for the fourth one
        left = iter([None, None, None])
        monkeypatch.setattr("peft.tuners.lora.layer.LoraLayer.reset_lora_parameters", lambda *_: next(left))
    else:
        start = Start("x", factors={"model.layers.1.mlp.up_proj": (torch.ones(4, 5), torch.ones(7, 4))})
    with pytest.raises((StopIteration, RuntimeError)):
        attach(base, settings_of("lora"), total_steps=1, opening=OPENING, start=start)
    monkeypatch.undo()
    assert not any("lora" in name for name, _ in base.model.named_modules())
    assert not any(weight.requires_grad for weight in base.model.parameters())
    with torch.no_grad():
        assert torch.equal(CausalScorer(0).collate(QUESTIONS).forward(base.model), before)
    trained(base, "lora").detach()


def test_a_misspelt_target_is_named(base: Base) -> None:
    with pytest.raises(RecipeError, match=r"(?s)'k_porj'.*allowed: .*k_proj"):
        attach(base, Adapter(targets=["q_proj", "k_porj"]), total_steps=1, opening=(5,))


def test_an_adapter_for_another_base_is_refused_naming_both(
    base: Base, other_base: Path, home: Path, tmp_path: Path
) -> None:
    adapter = trained(base, "lora")
    bundle = bundle_of(adapter, "lora", tmp_path / "bundle")
    adapter.detach()
    other = load_base(str(other_base), home)
    with pytest.raises(BaseError, match=rf"(?s){base.fingerprint}.*{other.fingerprint}"):
        load_weights(bundle, other, Stack(other, 1))


def test_an_encoder_takes_no_prefix(encoder: Base) -> None:
    with pytest.raises(RecipeError, match=r"(?s)prefix tuning does not work on .*\(encoder\).*adapter\.method=lora"):
        attach(encoder, Adapter(method="prefix"), total_steps=1, opening=(5,))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_quantized_base_keeps_the_numbers_that_it_was_loaded_in(
    tiny_base: Path, home: Path, method: str, checkpointing: bool
) -> None:
    base = load_base(str(tiny_base), home, quantization="nf4", dtype="bfloat16")
    types = {name: weight.dtype for name, weight in base.model.named_parameters()}
    with torch.no_grad():
        before = CausalScorer(0).collate(QUESTIONS).forward(base.model)
    adapter = attach(
        base, settings_of(method), total_steps=STEPS, opening=OPENING, gradient_checkpointing=checkpointing
    )
    adapter.peft.train()
    (-answers(adapter).sum() + adapter.penalty()).backward()
    slopes = [weight.grad for weight in adapter.parameters()]
    assert any(slope is not None and slope.isfinite().all() and slope.any() for slope in slopes)
    adapter.detach()
    assert base.dtype == "bfloat16"
    assert {name: weight.dtype for name, weight in base.model.named_parameters()} == types
    with torch.no_grad():
        assert torch.equal(CausalScorer(0).collate(QUESTIONS).forward(base.model), before)


@pytest.mark.parametrize("method", METHODS)
def test_on_a_quantized_base(tiny_base: Path, home: Path, method: str) -> None:
    quantized = load_base(str(tiny_base), home, quantization="nf4")
    adapter = trained(quantized, method)
    assert answers(adapter).isfinite().all()
    adapter.detach()
    assert type(quantized.model.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
