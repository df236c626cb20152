"""Folders that hold a base in another form: each is refused by the name of the form, with the way out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shopfit.base.checkpoint import Checkpoint
from shopfit.base.load import load_base
from shopfit.errors import BaseError


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("files", "what", "way_out"),
    [
        (["model.onnx"], "an ONNX export", "exported from"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx"], "an ONNX export", "exported from"),
        (["openvino_model.xml", "openvino_model.bin"], "an OpenVINO export", "exported from"),
        (["tf_model.h5"], "weights of TensorFlow", "with safetensors"),
        (["saved_model/saved_model.pb"], "a TensorFlow export", "exported from"),
        (["flax_model.msgpack"], "weights of Flax", "with safetensors"),
        (["weights.npz"], "weights of MLX", "as transformers saves it"),
        (["pytorch_model.bin"], "pickled weights", "save_pretrained"),
        (["pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"], "pickled weights", "save_pretrained"),
        (["model.pt"], "pickled weights", "save_pretrained"),
        ([], "no safetensors weights", "save_pretrained"),
    ],
)
def test_weights_in_another_form(copy: Path, home: Path, files: list[str], what: str, way_out: str) -> None:
    (copy / "model.safetensors").unlink()
    for name in files:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"anything")
    with pytest.raises(BaseError, match=what) as refused:
        load_base(str(copy), home)
    assert way_out in str(refused.value.next_step)
    assert not files or files[0] in str(refused.value) or files[1] in str(refused.value)


def test_a_pickle_is_never_opened(copy: Path, home: Path, tmp_path: Path) -> None:
    (copy / "model.safetensors").unlink()
    torch.save({"weight": _Runs(tmp_path / "ran")}, copy / "pytorch_model.bin")
    with pytest.raises(BaseError, match="pickled weights"):
        load_base(str(copy), home)
    assert not (tmp_path / "ran").exists()


class _Runs:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self._path,)


def test_other_forms_beside_safetensors_are_let_be(copy: Path) -> None:
    for name in ("model.onnx", "pytorch_model.bin", "tf_model.h5"):
        (copy / name).write_bytes(b"anything")
    with Checkpoint.open(copy).alone() as shown:
        assert not {"model.onnx", "pytorch_model.bin", "tf_model.h5"} & {path.name for path in shown.iterdir()}


def test_what_mlx_quantized(copy: Path) -> None:
    said = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(said | {"quantization": {"group_size": 64, "bits": 4}}))
    tensors = load_file(copy / "model.safetensors")
    first = min(tensors)
    save_file(tensors | {first: tensors[first].to(torch.uint32)}, copy / "model.safetensors", {"format": "mlx"})
    with pytest.raises(BaseError, match="quantized already, as MLX does"):
        Checkpoint.open(copy)


CODE = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Tokenizer", None]}


def name_code(folder: Path, marker: Path, *names: str, **said: Any) -> None:
    """Give a base code of its own, that would leave a mark."""
    (folder / "own.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for name in names:
        found = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(found | {"auto_map": CODE} | said))


@pytest.mark.parametrize(
    "names", [["config.json"], ["tokenizer_config.json"], ["config.json", "tokenizer_config.json"]]
)
def test_code_of_a_known_family_is_not_run_and_not_needed(
    copy: Path, home: Path, tmp_path: Path, names: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    plain = load_base(str(copy), home)
    name_code(copy, tmp_path / "ran", *names)
    base = load_base(str(copy), home)
    assert not (tmp_path / "ran").exists()
    assert f"auto_map in {', '.join(names)}), which is not run: it is loaded as transformers' own llama" in caplog.text
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(base.model(ids).logits, plain.model(ids).logits)
    assert type(base.model).__module__.startswith("transformers.models.llama")
    assert base.fingerprint != plain.fingerprint


def test_code_of_an_unknown_family_is_not_run_so_the_base_is_refused(copy: Path, home: Path, tmp_path: Path) -> None:
    name_code(copy, tmp_path / "ran", "config.json", model_type="own", architectures=["OwnModel"])
    with pytest.raises(BaseError, match=r"auto_map in config\.json\), which is never run.* no family 'own'"):
        load_base(str(copy), home)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_is_code(copy: Path, home: Path, tmp_path: Path) -> None:
    name_code(copy, tmp_path / "ran", "tokenizer_config.json", tokenizer_class="OwnTokenizer")
    assert load_base(str(copy), home).tokenizer.encode("tents")  # tokenizer.json is read by transformers' own class
    (copy / "tokenizer.json").unlink()
    (copy / "vocab.json").write_text("{}")
    (copy / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(BaseError, match=r"no tokenizer 'OwnTokenizer', and the base holds no tokenizer\.json"):
        load_base(str(copy), home)
    assert not (tmp_path / "ran").exists()
