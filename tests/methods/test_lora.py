"""rsLoRA is LoRA with another scale, which goes into the exported weights exactly; DoRA has no such form."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor

from shopfit.adapter.bundle import LORA, NATIVE
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.adapter.weight_files import (
    CONFIG,
    NORM_SCALES,
    WEIGHTS,
    form_note,
    read_plain,
    write_plain,
    write_served,
)
from shopfit.base.load import Base
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.errors import BundleError
from shopfit.methods import METHODS
from shopfit.methods.lora import as_lora
from shopfit.recipe.adapter_section import Adapter

QUESTIONS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23, 24), (25, 26)))]
RANK, ALPHA = 9, 6.0


def answers(adapter: TrainableAdapter) -> Tensor:
    with torch.no_grad():
        return CausalScorer(0).collate(QUESTIONS).forward(adapter.model, prefix=adapter.prefix(2))


def fresh(base: Base, *, rslora: bool, dora: bool = False, start: Start | None = None) -> TrainableAdapter:
    torch.manual_seed(3)
    settings = Adapter(rank=RANK, alpha=ALPHA, rslora=rslora, dora=dora)
    adapter = attach(base, settings, total_steps=4, opening=(5, 6), start=start)
    adapter.peft.eval()
    return adapter


def with_random_b(adapter: TrainableAdapter) -> TrainableAdapter:
    torch.manual_seed(4)
    with torch.no_grad():
        for name, weight in adapter.peft.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.05)
    return adapter


def exported(adapter: TrainableAdapter, folder: Path) -> dict[str, tuple[Tensor, Tensor]]:
    adapter.save(folder / NATIVE)
    assert write_plain(folder / NATIVE, folder / LORA) == RANK
    plain = folder / LORA
    return read_plain((plain / WEIGHTS).read_bytes(), str(plain / WEIGHTS), (plain / CONFIG).read_bytes())


def test_the_export_differs_from_loras_by_the_scale_alone(base: Base, tmp_path: Path) -> None:
    found = {}
    for rslora in (False, True):
        adapter = with_random_b(fresh(base, rslora=rslora))
        found[rslora] = exported(adapter, tmp_path / str(rslora))
        adapter.detach()
    assert found[False].keys() == found[True].keys()
    for layer, (down, up) in found[True].items():
        assert torch.equal(down, found[False][layer][0])
        torch.testing.assert_close(up, found[False][layer][1] * RANK**0.5)  # alpha / 3 where LoRA has alpha / 9


def test_the_exported_folder_answers_in_peft_as_the_trained_adapter(base: Base, tmp_path: Path) -> None:
    adapter = with_random_b(fresh(base, rslora=True))
    wanted = answers(adapter)
    exported(adapter, tmp_path)
    adapter.detach()
    assert json.loads((tmp_path / NATIVE / CONFIG).read_text())["use_rslora"] is True
    assert not json.loads((tmp_path / LORA / CONFIG).read_text()).get("use_rslora")
    for folder in (NATIVE, LORA):
        peft = PeftModel.from_pretrained(base.model, tmp_path / folder).eval()
        with torch.no_grad():
            got = CausalScorer(0).collate(QUESTIONS).forward(peft.get_base_model())
        peft.unload()
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_start_is_the_same_under_either_scale(base: Base, tmp_path: Path, rslora: bool) -> None:
    adapter = with_random_b(fresh(base, rslora=not rslora))
    wanted, factors = answers(adapter), exported(adapter, tmp_path)
    adapter.detach()
    begun = fresh(base, rslora=rslora, start=Start("x", factors=factors))
    torch.testing.assert_close(answers(begun), wanted, rtol=1e-4, atol=1e-4)
    begun.detach()


def test_dora_has_no_plain_form_and_each_place_says_why(base: Base, tmp_path: Path) -> None:
    settings = Adapter(rank=RANK, alpha=ALPHA, dora=True)
    adapter = with_random_b(fresh(base, rslora=False, dora=True))
    adapter.save(tmp_path / NATIVE)
    adapter.detach()
    assert write_served(tmp_path / NATIVE, tmp_path / LORA, settings) == RANK
    with pytest.raises(BundleError, match=r"(?s)use_dora: True.*for vLLM .* train it again without adapter\.dora"):
        write_plain(tmp_path / NATIVE, tmp_path / LORA)
    assert not (tmp_path / LORA).exists()
    assert "no plain LoRA equals it" in form_note(settings)
    assert form_note(Adapter(rslora=True)) == form_note(Adapter(method="prefix")) == ""
    assert METHODS["lora"].size_in_words(settings) == f"rank {RANK} on all-linear, DoRA"


def test_dora_keeps_its_magnitudes_and_what_engines_multiply_by(base: Base, tmp_path: Path) -> None:
    adapter = with_random_b(fresh(base, rslora=True, dora=True))
    plain = sum(RANK * (layer.in_features + layer.out_features) for layer in projections(base))
    with torch.no_grad():
        for name, weight in adapter.peft.named_parameters():
            if "magnitude" in name:
                weight.mul_(1.5)
    adapter.save(tmp_path)
    assert adapter.size() == plain + sum(len(scales) for scales in load_file(tmp_path / NORM_SCALES).values())
    adapter.detach()
    weights = load_file(tmp_path / WEIGHTS)
    for layer, scales in load_file(tmp_path / NORM_SCALES).items():
        a, b, magnitude = (
            weights[f"base_model.model.{layer}.lora_{part}"] for part in ("A.weight", "B.weight", "magnitude_vector")
        )
        row = base.model.get_submodule(layer).weight + ALPHA / RANK**0.5 * b @ a
        torch.testing.assert_close(scales, magnitude / row.norm(dim=1))


def projections(base: Base) -> list[Any]:
    return [
        getattr(layer, "base_layer", layer)
        for name, layer in base.model.named_modules()
        if name.rpartition(".")[2].endswith("_proj")
    ]


def test_what_starts_others_is_never_dora() -> None:
    settings, rate = as_lora(Adapter(rank=RANK, dora=True), 0.1)
    assert (settings.dora, settings.rank, rate) == (False, RANK, 0.1)
