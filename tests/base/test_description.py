"""What `shopfit base show` says of a base, without loading it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.base.tiny import save_tiny

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.description import Description, describe
from shopfit.base.int8_layers import Int8Linear
from shopfit.base.load import load_base


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def described(folder: Path) -> Description:
    return describe(str(folder), Checkpoint.open(folder))


def test_a_decoder(tiny_base: Path, home: Path) -> None:
    known, base = described(tiny_base), load_base(str(tiny_base), home)
    assert (known.family, known.kind, known.pooling, known.chat_template) == ("llama", "decoder", "", False)
    assert known.path == base.scorer.path == "fast"
    assert known.context == base.max_length == 512
    assert known.parameters == sum(weight.numel() for weight in base.model.parameters())
    assert known.memory["float32"] == 2 * known.memory["bfloat16"] == 4 * known.parameters


def test_an_encoder(tiny_encoder: Path, home: Path) -> None:
    known, base = described(tiny_encoder), load_base(str(tiny_encoder), home)
    assert (known.family, known.kind, known.pooling) == ("bert", "encoder", "mean")
    assert known.context == base.max_length


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
@pytest.mark.parametrize("tied", [True, False])
def test_memory_of_quantized_weights_is_what_they_take(
    tmp_path: Path, home: Path, quantization: str, tied: bool
) -> None:
    sizes = {"hidden_size": 128, "intermediate_size": 256, "head_dim": 32, "tie_word_embeddings": tied}
    folder = save_tiny(tmp_path / "base", "llama", "AutoModelForCausalLM", **sizes)
    base = load_base(str(folder), home, quantization=quantization)
    held = 0
    for weight in base.model.parameters():
        held += weight.numel() * weight.element_size()
        if (state := getattr(weight, "quant_state", None)) is not None:
            held += state.absmax.numel() * state.absmax.element_size()
            held += state.state2.absmax.numel() * state.state2.absmax.element_size()
    for module in base.model.modules():
        if isinstance(module, Int8Linear):
            held += 4 * module.out_features
        if (scales := getattr(getattr(module, "state", None), "SCB", None)) is not None:
            held += scales.numel() * scales.element_size()
    assert described(folder).memory[quantization] == pytest.approx(held, rel=0.01)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"README.md": "---\nlicense: apache-2.0\nlanguage: en\n---\n# A base\n"}, "apache-2.0"),
        ({"README.md": "---\nlicense: [mit, apache-2.0]\n---\n"}, "mit, apache-2.0"),
        ({"README.md": "---\nlicense: other\nlicense_name: qwen\n---\n"}, "qwen"),
        ({"README.md": "---\nlicense: other\n---\n", "LICENSE": "MIT License\n"}, "other"),
        ({"README.md": "# A base\n", "LICENSE": "\n  MIT License\n\nCopyright"}, "MIT License"),
        ({"README.md": "---\n!!python/object/apply:os.getcwd []\n---\n"}, ""),
        ({"README.md": "---\nlicense: {a: b}\n---\n", "LICENSE.txt": "BSD"}, "BSD"),
        ({"README.md": "---\nno end"}, ""),
        ({}, ""),
    ],
)
def test_the_license_is_what_the_files_say(copy: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (copy / name).write_text(content)
    assert described(copy).license == said


def test_a_license_elsewhere_is_not_read(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (copy / "LICENSE").symlink_to(tmp_path / "secret")
    assert described(copy).license == ""


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template(copy: Path, where: str) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    if where.endswith("json"):
        said: dict[str, Any] = json.loads((copy / where).read_text())
        (copy / where).write_text(json.dumps(said | {"chat_template": template}))
    else:
        (copy / where).write_text(template)
    assert described(copy).chat_template


def test_nothing_is_loaded(copy: Path) -> None:
    before = torch.get_default_dtype()
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-4:] = b"\xff\xff\xff\x7f"  # NaN, which loading refuses
    (copy / "model.safetensors").write_bytes(content)
    assert described(copy).family == "llama"
    assert torch.get_default_dtype() == before
