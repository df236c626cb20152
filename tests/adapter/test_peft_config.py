"""PEFT folders of any settings: served with PEFT's own numbers, or refused by the name of what stands in the way."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from shopfit.adapter.stack import Stack
from shopfit.adapter.weight_files import CONFIG, WEIGHTS, read_plain, write_plain
from shopfit.errors import BundleError

IDS = torch.randint(0, 200, (2, 9), generator=torch.Generator().manual_seed(0))
CONVERTED: dict[str, dict[str, Any]] = {
    "alpha": {"r": 4, "lora_alpha": 11},
    "alpha of 0": {"r": 4, "lora_alpha": 0},
    "a negative alpha": {"r": 4, "lora_alpha": -3},
    "rslora": {"r": 5, "lora_alpha": 16, "use_rslora": True},
    "ranks by pattern": {"r": 4, "lora_alpha": 8, "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 7}},
    "alphas by pattern": {"r": 4, "lora_alpha": 8, "alpha_pattern": {"down_proj": 40, "self_attn.o_proj": 0.5}},
    "the first pattern counts": {"r": 4, "lora_alpha": 8, "alpha_pattern": {"layers.0.*q_proj": 3, "q_proj": 50}},
    "all of these": {
        "r": 3,
        "lora_alpha": 9,
        "use_rslora": True,
        "rank_pattern": {"up_proj": 6},
        "alpha_pattern": {"up_proj": 1, "k_proj": 20},
    },
    "some layers": {"r": 4, "lora_alpha": 8, "layers_to_transform": [1], "target_modules": ["q_proj", "up_proj"]},
    "all but some": {"r": 4, "lora_alpha": 8, "exclude_modules": ["k_proj"]},
    "gaussian": {"r": 4, "lora_alpha": 8, "init_lora_weights": "gaussian"},
    "orthogonal": {"r": 4, "lora_alpha": 8, "init_lora_weights": "orthogonal"},
    "dropout": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.3},
    "a name in target_modules": {"r": 4, "lora_alpha": 8, "target_modules": ["self_attn.q_proj", "up_proj"]},
    "a pattern as target_modules": {"r": 4, "lora_alpha": 8, "target_modules": r".*layers\.0\..*_proj"},
}
REFUSED: dict[str, dict[str, Any]] = {
    "use_dora": {"use_dora": True},
    "bias": {"bias": "lora_only"},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "lora_bias": {"lora_bias": True, "target_modules": ["q_proj"]},
    "init_lora_weights": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "trainable_token_indices": {"trainable_token_indices": [1, 2]},
    "layer_replication": {"layer_replication": [[0, 2], [1, 2]]},
    "alora_invocation_tokens": {"alora_invocation_tokens": [5]},
}


def foreign(model: PreTrainedModel, folder: Path, **settings: Any) -> PreTrainedModel | PeftModel:
    """Save an adapter with random weights as anybody's script would; the model with it."""
    torch.manual_seed(1)
    peft = get_peft_model(model, LoraConfig(**({"task_type": "CAUSAL_LM", "target_modules": "all-linear"} | settings)))
    for name, weight in peft.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.1)
    peft.save_pretrained(folder)
    return peft.eval()


@pytest.fixture
def model(tiny_base: Path) -> PreTrainedModel:
    return fresh(tiny_base)


def fresh(tiny_base: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32).eval()  # type: ignore[no-any-return]


def served(model: PreTrainedModel, lora: Path) -> torch.Tensor:
    """What the stack answers with a plain folder."""
    from types import SimpleNamespace

    base: Any = SimpleNamespace(model=model, name="tiny", quantization="none", device=torch.device("cpu"))
    stack = Stack(base, 1)
    factors = read_plain((lora / WEIGHTS).read_bytes(), "x", (lora / CONFIG).read_bytes())
    stack.put(1, stack.pack(factors, "x"))
    with torch.no_grad(), stack.rows([1, 1]):
        return model(IDS).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("settings", CONVERTED.values(), ids=CONVERTED)
def test_what_can_be_converted_answers_as_in_peft(
    model: PreTrainedModel, tiny_base: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    peft = foreign(model, tmp_path / "native", **settings)
    with torch.no_grad():
        want = peft(IDS).logits
    write_plain(tmp_path / "native", tmp_path / "lora")
    torch.testing.assert_close(served(fresh(tiny_base), tmp_path / "lora"), want, rtol=1e-4, atol=1e-4)
    again = PeftModel.from_pretrained(fresh(tiny_base), tmp_path / "lora").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(IDS).logits, want, rtol=1e-4, atol=1e-4)


def test_a_model_that_keeps_its_weights_the_other_way_round(tmp_path: Path) -> None:
    def gpt2() -> PreTrainedModel:
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(vocab_size=256, n_positions=64, n_embd=32, n_layer=2, n_head=4)).eval()

    peft = foreign(gpt2(), tmp_path / "native", r=4, lora_alpha=12, fan_in_fan_out=True, target_modules=["c_attn"])
    with torch.no_grad():
        want = peft(IDS).logits
    write_plain(tmp_path / "native", tmp_path / "lora")
    torch.testing.assert_close(served(gpt2(), tmp_path / "lora"), want, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "settings"), REFUSED.items(), ids=REFUSED)
def test_what_cannot_is_refused_by_name(
    model: PreTrainedModel, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    foreign(model, tmp_path / "native", r=4, lora_alpha=8, **settings)
    with pytest.raises(BundleError, match="init_lora_weights" if name == "olora" else name):
        write_plain(tmp_path / "native", tmp_path / "lora")
    assert not (tmp_path / "lora").exists()
    content, config = ((tmp_path / "native" / file).read_bytes() for file in (WEIGHTS, CONFIG))
    with pytest.raises(BundleError):  # nor may it be sealed as lora/ as it is
        read_plain(content, f"lora/{WEIGHTS}", config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora_alpha": 16}, r"(?s)lora/adapter_config\.json of x is not .*lora_alpha: 16 \(allowed: 4.*write_plain"),
        ({"r": 8, "lora_alpha": 8}, r"r: 8 \(allowed: 4"),
        ({"lora_alpha": None}, "lora_alpha: None"),
        ({"lora_alpha": float("nan")}, "NaN is not a finite number"),
        ({"use_rslora": True}, "use_rslora: True"),
        ({"rank_pattern": {"q_proj": 4}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 4}}, "alpha_pattern"),
        ({"use_dora": True}, "use_dora: True"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights: 'pissa_niter_4'"),
        ({"a_switch_of_next_year": 3}, "a_switch_of_next_year: 3"),
        ({"target_parameters": ["experts"]}, "target_parameters"),
        ({"target_modules": ["k_proj"]}, r"does not name model\.layers\.0\.self_attn\.q_proj"),
        ({"peft_type": "LOHA"}, "peft_type 'LOHA'"),
        ({"peft_type": ["LORA"]}, "is not PEFT's configuration"),
        ("[]", "is not PEFT's configuration"),
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        (b"\xff\xfe{", "cannot be read"),
    ],
)
def test_lora_is_plain_or_refused(change: Any, message: str) -> None:
    from safetensors.torch import save

    name = "base_model.model.model.layers.0.self_attn.q_proj"
    content = save({f"{name}.lora_A.weight": torch.ones(4, 8), f"{name}.lora_B.weight": torch.ones(8, 4)})
    plain = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
    where = f"lora/{WEIGHTS} of x"
    assert len(read_plain(content, where, json.dumps(plain).encode())) == 1
    config = json.dumps(plain | change) if isinstance(change, dict) else change
    with pytest.raises(BundleError, match=message):
        read_plain(content, where, config if isinstance(config, bytes) else config.encode())


@pytest.mark.parametrize(
    "change",
    [
        {"r": 0},
        {"r": "8"},
        {"r": True},
        {"lora_alpha": "many"},
        {"rank_pattern": {"q_proj": -1}},
        {"rank_pattern": {"(": 4}},
        {"alpha_pattern": ["q_proj"]},
        {"alpha_pattern": {"q_proj": None}},
        {"peft_type": "ADALORA", "init_r": 0},
        {"peft_type": "ADALORA", "lora_alpha": -1},
    ],
)
def test_a_folder_with_settings_that_cannot_be(model: PreTrainedModel, tmp_path: Path, change: dict[str, Any]) -> None:
    foreign(model, tmp_path / "native", r=4, lora_alpha=8)
    file = tmp_path / "native" / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BundleError):
        write_plain(tmp_path / "native", tmp_path / "lora")


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_folder_that_is_half_there(model: PreTrainedModel, tmp_path: Path, missing: str) -> None:
    foreign(model, tmp_path / "native", r=4)
    (tmp_path / "native" / missing).unlink()
    with pytest.raises(BundleError, match=f"{missing} is missing"):
        write_plain(tmp_path / "native", tmp_path / "lora")
