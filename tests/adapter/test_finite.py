"""Numbers that are not finite never get into a bundle, a registry, a slot or a start."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from shopfit.adapter.artifacts import HEAD
from shopfit.adapter.bundle import BaseIdentity, Bundle, DataIdentity, HeldBundle, Manifest, check_servable, seal
from shopfit.adapter.finite import tensor_problems
from shopfit.adapter.initial_weights import start_from
from shopfit.adapter.stack import Stack
from shopfit.adapter.trainable import attach
from shopfit.adapter.weight_files import CONFIG, WEIGHTS
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base, load_base
from shopfit.errors import BundleError, ShopfitError
from shopfit.recipe.adapter_section import Adapter
from shopfit.registry import Registry
from shopfit.settings import Settings

NAME = "base_model.model.model.layers.{}.self_attn.q_proj"
HOSTILE = {"NaN": float("nan"), "Inf": float("inf"), "-Inf": float("-inf"), "1e30": 1e30}


def manifest(base: Base, **more: Any) -> Manifest:
    said: dict[str, Any] = {
        "merchant": "evil",
        "recipe": "r",
        "recipe_snapshot": {"name": "r"},
        "base": BaseIdentity(name=base.name, fingerprint=base.fingerprint, dtype=str(base.model.dtype)[6:]),
        "data": DataIdentity(digest="d", train=["1"], valid=[], test=[]),
        "seed": 0,
        "method": "lora",
        "rank": 2,
        "trainable_parameters": 1,
        "steps": 1,
        "libraries": {},
    }
    return Manifest(**said | more)


def weights(value: float = 0.1, *, everywhere: bool = True) -> dict[str, torch.Tensor]:
    """Two layers; in the second one all numbers, or some, are `value`."""
    found = {}
    for layer, number in ((0, 0.1), (1, value)):
        for part, shape in (("A", (2, 64)), ("B", (64, 2))):
            tensor = torch.full(shape, 0.1)
            tensor.view(-1)[:: 1 if everywhere else 77] = number
            found[f"{NAME.format(layer)}.lora_{part}.weight"] = tensor
    return found


def folder_of(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    (path / "lora").mkdir(parents=True)
    save_file(tensors, path / "lora" / WEIGHTS)
    (path / "lora" / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    return path


def held(base: Base, tensors: dict[str, torch.Tensor], **more: Any) -> HeldBundle:
    """As a registry of an older release holds it."""
    files = {f"lora/{WEIGHTS}": save(tensors)}
    return HeldBundle(manifest(base, files=dict.fromkeys(files, "0" * 64), **more), files)


@pytest.fixture
def half_base(tiny_base: Path, home: Path) -> Base:
    return load_base(str(tiny_base), home, dtype="float16")


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_nothing_that_is_not_finite_passes_anywhere(
    base: Base, tmp_path: Path, settings: Settings, value: float, everywhere: bool
) -> None:
    tensors = weights(value, everywhere=everywhere)
    said = r"(?s)layers\.1\.self_attn\.q_proj.*tune\.lr"
    with pytest.raises(BundleError, match=said):
        seal(folder_of(tmp_path / "sealed", tensors), manifest(base))
    assert not (tmp_path / "sealed" / "bundle.json").exists()
    old = held(base, tensors)
    for refused in (
        lambda: check_servable(old),
        lambda: load_weights(old, base, Stack(base, 1)),
        lambda: start_from(old, "evil/r@1", base),
    ):
        with pytest.raises(BundleError, match=said):
            refused()
    bundle = seal(folder_of(tmp_path / "published", weights()), manifest(base))
    save_file(tensors, bundle.folder / "lora" / WEIGHTS)
    _forge(bundle)
    with Registry.open(settings) as registry:
        with pytest.raises(BundleError, match=said):
            registry.publish(bundle, promote=True, actor="eve")
        assert registry.versions() == []


def _forge(bundle: Bundle) -> None:
    """Digests that fit what is there now, as somebody writes them who does not use `seal`."""
    from shopfit.adapter.bundle import file_digests

    files = file_digests(bundle.folder)
    files.pop("bundle.json")
    content = bundle.manifest.model_copy(update={"files": files}).model_dump_json(by_alias=True)
    (bundle.folder / "bundle.json").write_text(content)


def test_what_is_finite_passes_everywhere(base: Base, tmp_path: Path, settings: Settings) -> None:
    bundle = seal(folder_of(tmp_path / "b", weights(30.0)), manifest(base))
    check_servable(bundle)
    load_weights(bundle, base, Stack(base, 1))
    start_from(bundle, "x", base)
    with Registry.open(settings) as registry:
        registry.publish(bundle, promote=True, actor="ada")


@pytest.mark.parametrize("value", [1e5, 3e3])  # beyond float16, and a product beyond it
def test_a_base_of_fewer_bits_takes_smaller_numbers(base: Base, half_base: Base, tmp_path: Path, value: float) -> None:
    tensors = weights(value)
    load_weights(held(base, tensors), base, Stack(base, 1))
    with pytest.raises(BundleError, match=r"layers\.1\.self_attn\.q_proj is not finite in float16"):
        load_weights(held(half_base, tensors), half_base, Stack(half_base, 1))
    with pytest.raises(BundleError, match="float16"):
        seal(folder_of(tmp_path / "b", tensors), manifest(half_base))
    load_weights(held(half_base, weights(10.0)), half_base, Stack(half_base, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_numbers_of_every_type_are_looked_at(dtype: torch.dtype) -> None:
    for value in (float("nan"), float("inf"), float("-inf")):
        content = save({"x": torch.tensor([1.0, value, 2.0], dtype=dtype)})
        [problem] = tensor_problems(content, "w", "float32")
        assert problem.where == "w: x"
        assert "1 of 3" in problem.what
    assert tensor_problems(save({"x": torch.ones(3, dtype=dtype), "empty": torch.ones(0)}), "w", "float32") == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_head_and_a_prefix_too(base: Base, tmp_path: Path, value: float) -> None:
    rows = torch.full((2, 64), 0.1)
    rows[1, 5] = value
    bundle = held(base, weights(), labels=["no", "yes"])
    with pytest.raises(BundleError, match=r"head\.safetensors of evil/r .*not finite"):
        load_weights(HeldBundle(bundle.manifest, {**bundle.contents, HEAD: save({"rows": rows})}), base, Stack(base, 1))
    if value != 1e30:
        prefix = save({"prompt_embeddings": torch.full((3, 2 * 2 * 2 * 16), value)})
        said = manifest(base, method="prefix", rank=3, files={f"native/{WEIGHTS}": "0" * 64})
        alone = HeldBundle(said, {f"native/{WEIGHTS}": prefix})
        for refused in (lambda: load_weights(alone, base, Stack(base, 1)), lambda: start_from(alone, "x", base)):
            with pytest.raises(BundleError, match=r"prefix of .* is not finite"):
                refused()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / HEAD).write_bytes(save({"rows": rows}))
    if value != 1e30:
        with pytest.raises(BundleError, match=r"head\.safetensors: rows"):
            seal(tmp_path / "b", manifest(base))


@pytest.mark.parametrize("content", ['{"weights": {"adapter": NaN}}', '{"a": [1, {"b": -Infinity}]}', '{"a": 1e999}'])
def test_json_in_a_bundle_holds_finite_numbers(base: Base, tmp_path: Path, content: str) -> None:
    folder = folder_of(tmp_path / "b", weights())
    (folder / "report.json").write_text(content)  # for people: it says so where there is no number
    seal(folder, manifest(base))
    (folder / "blend.json").write_text(content)
    with pytest.raises(BundleError, match=r"blend\.json"):
        seal(folder, manifest(base))


@pytest.mark.parametrize("method", ["lora", "adalora", "prefix"])
def test_a_training_that_diverged_is_not_written(base: Base, tmp_path: Path, method: str) -> None:
    adapter = attach(base, Adapter(method=method, rank=2), total_steps=3, opening=(5, 6, 7))  # type: ignore[arg-type]
    adapter.check()
    with torch.no_grad():
        next(adapter.parameters())[0, 0] = float("nan")
    with pytest.raises(ShopfitError, match=r"(?s)the training diverged: .*lower tune\.lr"):
        adapter.save(tmp_path / "native")
    assert not (tmp_path / "native").exists()
    adapter.detach()
