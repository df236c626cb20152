"""rsLoRA is LoRA with another scale, which goes into the exported weights exactly; DoRA has no such form."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from shopfit.adapter.bundle import LORA, NATIVE
from shopfit.adapter.initial_weights import Start
from shopfit.adapter.trainable import TrainableAdapter, attach
from shopfit.adapter.weight_files import CONFIG, WEIGHTS, read_plain, write_plain
from shopfit.base.load import Base
from shopfit.base.scoring.causal import CausalScorer
from shopfit.base.scoring.questions import Question
from shopfit.recipe.schema import Adapter

QUESTIONS = [Question((5, 6, 7, 8), ((9, 10), (11,))), Question((20, 21), ((22, 23, 24), (25, 26)))]
RANK, ALPHA = 9, 6.0


def answers(adapter: TrainableAdapter) -> Tensor:
    with torch.no_grad():
        return CausalScorer(0).collate(QUESTIONS).forward(adapter.model, prefix=adapter.prefix(2))


def fresh(base: Base, *, rslora: bool, start: Start | None = None) -> TrainableAdapter:
    torch.manual_seed(3)
    settings = Adapter(rank=RANK, alpha=ALPHA, rslora=rslora)
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
