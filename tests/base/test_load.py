import json
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from shopfit.adapter.trainable import attach
from shopfit.base.checkpoint import Checkpoint
from shopfit.base.conversion import dtype_on
from shopfit.base.description import describe
from shopfit.base.load import Base, load_base
from shopfit.base.locate import fetched_bases, locate_base
from shopfit.base.mapped import MappedFiles
from shopfit.base.prepack import count_weights
from shopfit.engine import Engine
from shopfit.errors import BaseError
from shopfit.recipe.adapter_section import Adapter
from shopfit.settings import Settings


def test_a_local_folder_loads_frozen(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home)
    assert not any(weight.requires_grad for weight in base.model.parameters())
    assert not base.model.training
    assert base.max_length == 512
    assert len(base.fingerprint) == 64


@pytest.mark.parametrize(("quantization", "layer"), [("int8", "Int8Linear"), ("nf4", "Linear4bit")])
def test_quantized_loads_keep_their_fingerprint(tiny_base: Path, home: Path, quantization: str, layer: str) -> None:
    base = load_base(str(tiny_base), home, quantization=quantization)
    assert type(base.model.model.layers[0].mlp.up_proj).__name__ == layer
    assert base.fingerprint == load_base(str(tiny_base), home).fingerprint
    with torch.inference_mode():
        assert base.model(torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_int8_is_rounded_by_us_on_a_cpu(encoder: Base, tiny_base: Path, home: Path) -> None:
    for folder in (str(encoder.folder), str(tiny_base)):
        plain, base = (load_base(folder, home, quantization=kind, device="cpu") for kind in ("none", "int8"))
        assert (base.rounding, plain.rounding, base.fingerprint) == ("shopfit-1", "", plain.fingerprint)
        assert count_weights(base.model) == count_weights(plain.model)
    assert load_base(str(encoder.folder), home, quantization="int8", device="cpu", dtype="bfloat16").rounding == ""


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_base_has_the_numbers_that_are_asked_for(tiny_base: Path, home: Path, dtype: str) -> None:
    base = load_base(str(tiny_base), home, device="cpu", dtype=dtype)
    assert base.dtype == dtype
    assert {str(weight.dtype) for weight in base.model.parameters()} == {f"torch.{dtype}"}
    assert load_base(str(tiny_base), home, device="cpu").dtype == dtype_on("cpu") == "float32"
    assert base.fingerprint == load_base(str(tiny_base), home, device="cpu").fingerprint


def test_numbers_that_no_base_has_are_refused_before_anything_is_read(home: Path) -> None:
    with pytest.raises(BaseError, match="no numbers of type 'float8' \\(allowed: auto, float32, bfloat16, float16\\)"):
        load_base("/nowhere/at/all", home, dtype="float8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="auto is more than float32 on a GPU alone")
def test_on_a_gpu_that_computes_in_bfloat16_a_base_is_so_by_itself(
    tiny_base: Path, home: Path, settings: Settings
) -> None:
    native = torch.cuda.get_device_capability(0)[0] >= 8
    assert load_base(str(tiny_base), home, device="cuda:0").dtype == ("bfloat16" if native else "float32")
    assert load_base(str(tiny_base), home, device="cuda:0", quantization="nf4").dtype == "float32"
    assert Engine.load(str(tiny_base), settings=settings, device="cuda:0").base.dtype == dtype_on("cuda:0")


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_gradients_through_a_quantized_base_survive_inference(tiny_base: Path, home: Path, quantization: str) -> None:
    base = load_base(str(tiny_base), home, quantization=quantization)
    embedded = base.model.get_input_embeddings()(torch.tensor([[1, 2, 3, 4]])).requires_grad_()

    def gradient() -> torch.Tensor:
        return torch.autograd.grad(base.model(inputs_embeds=embedded).logits.square().sum(), embedded)[0]

    fresh = gradient()
    with torch.inference_mode():
        base.model(torch.tensor([[1, 2, 3, 4]]))
    torch.testing.assert_close(gradient(), fresh)
    assert fresh.abs().sum() > 0


@pytest.mark.parametrize("name", ["smolm2", "/nowhere/at/all", "./nowhere"])
def test_a_base_that_is_not_there(home: Path, name: str) -> None:
    with pytest.raises(BaseError, match="smollm2-135m, minilm-l6"):
        locate_base(name, home)


def test_the_license_of_a_base_of_a_hub_is_brought_along(
    tiny_base: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_hub = Path(shutil.copytree(tiny_base, tmp_path / "of-hub"))
    (of_hub / "LICENSE").write_text("Our License\n")
    (of_hub / "picture.png").write_bytes(b"large")

    def download(name: str, *, allow_patterns: list[str]) -> str:
        ignored = [path.name for path in of_hub.iterdir() if not any(map(path.match, allow_patterns))]
        return str(shutil.copytree(of_hub, tmp_path / name, ignore=lambda *_: ignored))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    folder = locate_base("owner/plain", home)
    assert not (folder / "picture.png").exists()
    assert describe("owner/plain", Checkpoint.open(folder)).license == "Our License"
    (of_hub / "README.md").write_text("---\nlicense: mit\n---\n")
    folder = locate_base("owner/other", home)
    assert describe("owner/other", Checkpoint.open(folder)).license == "mit"


def test_a_hub_id_without_a_hub(home: Path) -> None:
    with pytest.raises(BaseError, match="owner/nothing is no folder here, and could not be had from the Hub"):
        locate_base("owner/nothing", home)


def test_remote_code_is_not_run(tiny_base: Path, home: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_base, tmp_path / "evil"))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(BaseError, match="auto_map"):
        load_base(str(folder), home)
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_packaged_bases_are_fetched(home: Path) -> None:
    there = {name: path is not None for name, path in fetched_bases(home).items()}
    assert set(there) == {"smollm2-135m", "minilm-l6", "e5-small-multilingual"}
    assert {name: there[name] for name in ("smollm2-135m", "minilm-l6")} == {
        "smollm2-135m": True,
        "minilm-l6": True,
    }


@pytest.mark.slow
def test_smollm2_speaks(home: Path) -> None:
    base = load_base("smollm2-135m", home)
    tokens = base.tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        best = base.model(**tokens).logits[0, -1].argmax().item()
    assert base.tokenizer.decode([best]) == " Paris"


def test_a_device_map_serves_and_does_not_train(tiny_base: Path, home: Path, settings: Settings) -> None:
    plain, placed = (
        load_base(str(tiny_base), home, device="cpu"),
        load_base(str(tiny_base), home, device_map={"": "cpu"}),
    )
    ids = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        assert torch.equal(placed.model(ids).logits, plain.model(ids).logits)
    assert (placed.fingerprint, placed.device) == (plain.fingerprint, torch.device("cpu"))
    with pytest.raises(BaseError, match="loaded by a device map, which serves it and does not train it") as refused:
        attach(placed, Adapter(), total_steps=1, opening=(1, 2))
    assert "FSDP" in str(refused.value.next_step)
    with Engine.load(str(tiny_base), settings=settings, device_map={"": "cpu"}, encoder=None) as engine:
        assert engine.base.placed


def test_pages_that_are_let_go_of_come_back_as_they_were(tiny_base: Path, home: Path) -> None:
    base = load_base(str(tiny_base), home, device="cpu", dtype="float32")
    held = load_file(tiny_base / "model.safetensors")
    assert all(torch.equal(weight, held[name]) for name, weight in base.model.named_parameters())


def test_only_pages_of_the_files_are_let_go_of(tiny_base: Path) -> None:
    mapped = load_file(tiny_base / "model.safetensors")
    copies = {name: weight.clone() for name, weight in mapped.items()}
    files = MappedFiles([(tiny_base / "model.safetensors").resolve()])
    own = {name: weight.clone() for name, weight in mapped.items()}
    for weight in (*mapped.values(), *own.values()):
        files.release(weight)
    assert all(torch.equal(mapped[name], copies[name]) and torch.equal(own[name], copies[name]) for name in copies)


def resident(file: Path) -> int:
    """Bytes of a file's mappings that are in memory."""
    found, mine = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, *rest = line.split()
        if not key.endswith(":"):
            mine = line.endswith(str(file))
        elif mine and key == "Rss:":
            found += 1024 * int(rest[0])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what of a file is in memory")
def test_of_what_was_quantized_no_page_of_the_files_stays(tmp_path: Path) -> None:
    weights = {name: torch.randn(256, 1024) for name in ("read_again", "read_once")}
    save_file(weights, tmp_path / "model.safetensors")
    file = (tmp_path / "model.safetensors").resolve()
    mapped = load_file(file)
    assert all(torch.equal(mapped[name], weight) for name, weight in weights.items())  # now they are in memory
    files, size = MappedFiles([file]), weights["read_once"].nbytes
    assert resident(file) >= 2 * size
    files.release_but([mapped["read_again"]])
    assert size <= resident(file) < 1.1 * size
    files.release_but(mapped.values())
    assert resident(file) >= size
    assert all(torch.equal(mapped[name], weight) for name, weight in weights.items())


def test_a_folder_by_its_place_beside_the_working_folder_is_known_from_anywhere(
    tiny_base: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_base.parent)
    assert load_base(tiny_base.name, home).name == str(tiny_base)
    assert load_base(f"./{tiny_base.name}", home).name == str(tiny_base)
