import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from shopfit.base.fingerprint import fingerprint
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
    save_file({name: tensors[name] for name in names[::2]}, copy / "model-00001-of-00002.safetensors")
    save_file({name: tensors[name] for name in names[1::2]}, copy / "model-00002-of-00002.safetensors")
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


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "tokenizer.json"])
def test_says_what_is_missing(copy: Path, missing: str) -> None:
    (copy / missing).unlink()
    with pytest.raises(BaseError, match=missing.split(".")[0].replace("model", "weights")):
        fingerprint(copy)


def test_pickled_weights_are_not_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(BaseError, match="safetensors only"):
        fingerprint(copy)
