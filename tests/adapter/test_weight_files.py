"""The plain LoRA folder holds the adapter's own numbers, in a form that every engine reads alike."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shopfit.adapter.weight_files import CONFIG, WEIGHTS, write_plain
from shopfit.errors import BundleError

MODULE = "base_model.model.model.layers.0.self_attn.q_proj"


def native(folder: Path, weights: dict[str, torch.Tensor], **config: object) -> Path:
    folder.mkdir()
    save_file({f"{MODULE}.{name}": tensor for name, tensor in weights.items()}, folder / WEIGHTS)
    document = {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "b",
        "peft_type": "LORA",
        "r": 2,
        "lora_alpha": 8,
    } | config
    (folder / CONFIG).write_text(json.dumps(document))
    return folder


def product(folder: Path) -> torch.Tensor:
    weights = load_file(folder / WEIGHTS)
    return weights[f"{MODULE}.lora_B.weight"] @ weights[f"{MODULE}.lora_A.weight"]


def test_the_scale_is_folded_into_b(tmp_path: Path) -> None:
    a, b = torch.randn(2, 6), torch.randn(5, 2)
    folder = native(tmp_path / "native", {"lora_A.weight": a, "lora_B.weight": b})
    assert write_plain(folder, tmp_path / "lora") == 2
    config = json.loads((tmp_path / "lora" / CONFIG).read_text())
    assert config["lora_alpha"] == config["r"] == 2
    torch.testing.assert_close(product(tmp_path / "lora"), 8 / 2 * b @ a)


def test_adalora_loses_what_was_pruned_and_nothing_else(tmp_path: Path) -> None:
    a, b, e = torch.randn(3, 6), torch.randn(5, 3), torch.tensor([[0.5], [0.0], [-2.0]])
    folder = native(
        tmp_path / "native", {"lora_A": a, "lora_B": b, "lora_E": e}, peft_type="ADALORA", init_r=4, lora_alpha=16
    )
    assert write_plain(folder, tmp_path / "lora") == 2
    torch.testing.assert_close(product(tmp_path / "lora"), 16 / (4 + 1e-5) * b @ torch.diag(e[:, 0]) @ a)


def test_a_fully_pruned_adapter_is_still_readable(tmp_path: Path) -> None:
    folder = native(
        tmp_path / "native",
        {"lora_A": torch.randn(3, 6), "lora_B": torch.randn(5, 3), "lora_E": torch.zeros(3, 1)},
        peft_type="ADALORA",
        init_r=4,
    )
    assert write_plain(folder, tmp_path / "lora") == 1
    assert product(tmp_path / "lora").abs().sum() == 0


def test_a_stranger_among_the_weights_is_named(tmp_path: Path) -> None:
    folder = native(tmp_path / "native", {"lora_magnitude_vector": torch.ones(2)})
    with pytest.raises(BundleError, match="lora_magnitude_vector"):
        write_plain(folder, tmp_path / "lora")


def test_prefix_has_no_plain_form(tmp_path: Path) -> None:
    folder = tmp_path / "native"
    folder.mkdir()
    save_file({}, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "PREFIX_TUNING"}))
    with pytest.raises(BundleError, match="PREFIX_TUNING"):
        write_plain(folder, tmp_path / "lora")
