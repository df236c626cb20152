import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.fingerprint import fingerprint, identify
from shopfit.base.load import load_base
from shopfit.errors import BaseError


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def test_depends_on_content_alone(tiny_base: Path, copy: Path) -> None:
    assert fingerprint(copy) == fingerprint(tiny_base)
    assert len(fingerprint(copy)) == 64


def test_sharding_and_library_versions_do_not_matter(tiny_base: Path, copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(tensors)
    places = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    save_file({name: tensors[name] for name in names[::2]}, copy / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name] for name in names[1::2]}, copy / "model-00002-of-00002.safetensors")
    (copy / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9.9"}))
    assert fingerprint(copy) == fingerprint(tiny_base)


@pytest.mark.parametrize("part", ["weight", "config", "tokenizer"])
def test_changes_with_each_part(tiny_base: Path, copy: Path, part: str) -> None:
    if part == "weight":
        tensors = load_file(copy / "model.safetensors")
        tensors[min(tensors)].view(-1)[0] += 1
        save_file(tensors, copy / "model.safetensors")
    elif part == "config":
        config = json.loads((copy / "config.json").read_text())
        (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-4}))
    else:
        (copy / "tokenizer.json").write_text((copy / "tokenizer.json").read_text() + " ")
    assert fingerprint(copy) != fingerprint(tiny_base)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tokenizer_config.json", {"eos_token": "e"}),
        ("tokenizer_config.json", {"add_prefix_space": True}),
        ("generation_config.json", {"eos_token_id": [0, 7]}),
        ("special_tokens_map.json", {"eos_token": "e"}),
        ("added_tokens.json", {"<extra>": 300}),
        ("chat_template.jinja", {"x": 1}),
        ("merges.txt", {"x": 1}),
    ],
)
def test_changes_with_every_file_that_is_read(tiny_base: Path, copy: Path, name: str, said: dict[str, Any]) -> None:
    old = json.loads((copy / name).read_text()) if (copy / name).exists() else {}
    (copy / name).write_text(json.dumps(old | said))
    assert fingerprint(copy) != fingerprint(tiny_base)


@pytest.mark.parametrize("name", ["README.md", "decoy.safetensors", "model.safetensors.index.json", "modeling.py"])
def test_does_not_change_with_what_is_not_read(tiny_base: Path, copy: Path, name: str) -> None:
    (copy / name).write_text("anything")
    assert fingerprint(copy) == fingerprint(tiny_base)


def by_the_first_rule(folder: Path) -> str:
    """The fingerprint as bundles of before have it, written once more."""
    config = json.loads((folder / "config.json").read_text())
    for key in ("transformers_version", "_name_or_path", "torch_dtype", "dtype"):
        config.pop(key, None)
    said = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(said.encode() + (folder / "tokenizer.json").read_bytes())
    tensors = {name: tensor for path in folder.glob("*.safetensors") for name, tensor in load_file(path).items()}
    for name in sorted(tensors):
        digest.update(f"{name}\0{list(tensors[name].shape)}\0F32\0".encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


def test_the_first_rule_s_fingerprint_is_known_too(tiny_base: Path, other_base: Path, copy: Path, home: Path) -> None:
    base = load_base(str(copy), home)
    assert base.legacy_fingerprint == by_the_first_rule(copy) != base.fingerprint == fingerprint(copy)
    assert base.known_by(base.fingerprint)
    assert base.known_by(by_the_first_rule(tiny_base))
    assert not base.known_by(by_the_first_rule(other_base))
    assert not base.known_by(fingerprint(other_base))
    assert not base.known_by("")


def test_by_the_first_rule_every_file_of_weights_counts(copy: Path) -> None:
    """A base whose weights lie beside the adapter's own base's: neither fingerprint is that one's."""
    honest = identify(Checkpoint.open(copy))
    save_file({"other": torch.zeros(2)}, copy / "decoy.safetensors")
    found = identify(Checkpoint.open(copy))
    assert found.fingerprint == honest.fingerprint
    assert found.legacy == by_the_first_rule(copy) != honest.legacy
    (copy / "decoy.safetensors").write_bytes(b"damaged")
    assert identify(Checkpoint.open(copy)).legacy == ""


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_says_what_is_missing(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(BaseError, match=missing.split(".")[0].replace("model", "weights")):
        fingerprint(copy)


def test_pickled_weights_are_not_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BaseError, match="pickled weights, which are not read"):
        fingerprint(copy)
