"""A bundle of DoRA from training to an engine, and all that may be wrong with its files on the way."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from tests.engine.test_hostile_bundles import contents_of, held

from shopfit.adapter.artifacts import needed
from shopfit.adapter.bundle import MANIFEST, Bundle, HeldBundle, check_servable, seal
from shopfit.adapter.initial_weights import can_start, start_from
from shopfit.adapter.stack import Stack
from shopfit.adapter.weight_files import CONFIG, NORM_SCALES, WEIGHTS
from shopfit.adapter.weights import load_weights
from shopfit.base.load import Base
from shopfit.engine import ChooseRequest, Engine, Tenant
from shopfit.errors import BundleError, ShopfitError
from shopfit.registry import Registry
from shopfit.settings import Settings

Make = Callable[..., Bundle]
Contents = dict[str, bytes]
SCALES, NATIVE_WEIGHTS, NATIVE_CONFIG = (f"native/{name}" for name in (NORM_SCALES, WEIGHTS, CONFIG))
LAYER = "model.layers.0.self_attn.q_proj"


@pytest.fixture
def dora(make_bundle: Make) -> Bundle:
    return make_bundle("acme", switch="dora")


def answer(engine: Engine, adapter: Any) -> dict[str, float]:
    return dict(engine.submit(ChooseRequest(adapter, {"text": "lovely crema"})).result(60).probabilities)


def test_a_registry_publishes_verifies_and_serves_it(
    base: Base, dora: Bundle, settings: Settings, tmp_path: Path
) -> None:
    check_servable(dora)
    assert dora.lora is None
    with Engine(base) as engine:
        want = answer(engine, Tenant.of(dora))
    with Registry.open(settings) as registry:
        version = registry.publish(dora, promote=True, actor="test")
        assert registry.verify() == []
        with Engine(base, registry=registry, cache=tmp_path / "cache") as engine:
            assert answer(engine, "acme/r") == pytest.approx(want, abs=1e-6)
        fetched = registry.read(version, needed, tmp_path / "other")
    assert {SCALES, NATIVE_WEIGHTS, NATIVE_CONFIG} <= set(fetched.contents)


def test_no_other_adapter_starts_from_it(base: Base, dora: Bundle, make_bundle: Make) -> None:
    assert not can_start(dora.manifest)
    assert can_start(make_bundle("b").manifest)
    assert can_start(make_bundle("c", method="prefix").manifest)
    with pytest.raises(BundleError, match=r"(?s)acme/r@1 is DoRA.*start from an adapter of LoRA or AdaLoRA"):
        start_from(dora, "acme/r@1", base)


def test_plain_lora_is_served_where_a_bundle_has_both(base: Base, dora: Bundle, make_bundle: Make) -> None:
    lora = make_bundle("plain", seed=1)
    files = {name: content for name, content in contents_of(dora).items() if name.startswith("native/")}
    folder = lora.folder
    for name, content in files.items():
        (folder / name).write_bytes(content)
    both = seal(folder, lora.manifest)
    assert needed(both.manifest.files) & set(files) == set()
    assert load_weights(both, base, Stack(base, 1)).packed.beyond is None  # type: ignore[union-attr]


def scales(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Contents], Contents]:
    return lambda contents: {SCALES: save(change(load(contents[SCALES])))}


def config(**said: Any) -> Callable[[Contents], Contents]:
    return lambda contents: {NATIVE_CONFIG: json.dumps(json.loads(contents[NATIVE_CONFIG]) | said).encode()}


BAD: dict[str, tuple[Callable[[Contents], Contents], str]] = {
    "no tensors": (lambda _: {SCALES: b"PK\x03\x04"}, "cannot be read"),
    "nothing": (scales(lambda _: {}), "do not agree on"),
    "a layer less": (scales(lambda s: {k: v for k, v in s.items() if k != LAYER}), f"do not agree on '{LAYER}'"),
    "a layer more": (scales(lambda s: s | {"x\n": torch.ones(2)}), r"do not agree on 'x\\n'"),
    "another width": (scales(lambda s: s | {LAYER: torch.ones(5)}), r"shape \(5,\) .* \(allowed: \(64,\)\)"),
    "two dimensions": (scales(lambda s: s | {LAYER: torch.ones(64, 1)}), r"shape \(64, 1\)"),
    "one number": (scales(lambda s: s | {LAYER: torch.tensor(1.0)}), r"shape \(\)"),
    "integers": (scales(lambda s: s | {LAYER: torch.ones(64, dtype=torch.int32)}), "as int32"),
    "NaN": (scales(lambda s: s | {LAYER: torch.full((64,), float("nan"))}), "not finite"),
    "infinity": (scales(lambda s: s | {LAYER: torch.full((64,), float("inf"))}), "not finite"),
    "beyond float32": (scales(lambda s: s | {LAYER: torch.full((64,), 1e300, dtype=torch.float64)}), "not finite"),
    "a product beyond it": (scales(lambda s: s | {LAYER: torch.full((64,), 3e38)}), "not finite"),
    "LoRA's configuration": (config(use_dora=False), "is not that of DoRA"),
    "a truth that is none": (config(use_dora="yes"), "is not that of DoRA"),
    "AdaLoRA's": (config(peft_type="ADALORA"), "is not that of DoRA"),
    "another rank": (config(r=3), "has rank 4 for .*says 3"),
    "a rank that cannot be": (config(r="8"), "r='8'"),
    "another option": (config(lora_bias=True), "lora_bias: True"),
    "a bad pattern": (config(rank_pattern={"(": 4}), "rank_pattern"),
    "no JSON": (lambda _: {NATIVE_CONFIG: b"{"}, "cannot be read"),
    "singular values": (
        lambda c: {
            NATIVE_WEIGHTS: save(load(c[NATIVE_WEIGHTS]) | {f"base_model.model.{LAYER}.lora_E": torch.ones(4, 1)})
        },
        "is no LoRA weight",
    ),
    "half an update": (
        lambda c: {
            NATIVE_WEIGHTS: save({k: v for k, v in load(c[NATIVE_WEIGHTS]).items() if f"{LAYER}.lora_B" not in k})
        },
        "has no lora_B",
    ),
    "another rank than the manifest's": (
        lambda c: {MANIFEST: json.dumps(json.loads(c[MANIFEST]) | {"rank": 8}).encode()},
        "has rank 4, where its manifest says 8",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_files_that_do_not_fit_are_refused(
    base: Base, dora: Bundle, change: Callable[[Contents], Contents], message: str
) -> None:
    contents = contents_of(dora)
    load_weights(held(contents), base, Stack(base, 1))
    with pytest.raises(ShopfitError, match=message) as refused:
        load_weights(held(contents | change(contents)), base, Stack(base, 1))
    assert "acme/r" in str(refused.value)


@pytest.mark.parametrize("name", [SCALES, NATIVE_WEIGHTS, NATIVE_CONFIG])
def test_a_file_less_is_refused(base: Base, dora: Bundle, name: str) -> None:
    contents = contents_of(dora)
    del contents[name]
    with pytest.raises(BundleError, match="is missing"):
        load_weights(held(contents), base, Stack(base, 1))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_neither_sealed_nor_published(
    dora: Bundle, settings: Settings, number: float
) -> None:
    file = dora.folder / SCALES
    file.write_bytes(save(load(file.read_bytes()) | {LAYER: torch.full((64,), number)}))
    with pytest.raises(BundleError, match=f"{SCALES}: {LAYER}"):
        seal(dora.folder, dora.manifest)
    contents = contents_of(dora)
    with pytest.raises(BundleError, match=f"{SCALES}: {LAYER}"):
        check_servable(HeldBundle(dora.manifest, contents))


def test_a_row_of_numbers_that_grow_too_large_spoils_no_other(base: Base, dora: Bundle, make_bundle: Make) -> None:
    contents = contents_of(dora)
    grown = {layer: factors * 1e30 for layer, factors in load(contents[SCALES]).items()}
    evil = held(contents | {SCALES: save(grown)})
    lora = Tenant.of(make_bundle("plain", seed=1))
    with Engine(base) as engine:
        want = answer(engine, lora)
        futures = [engine.submit(ChooseRequest(one, {"text": "lovely crema"})) for one in (Tenant.of(evil), lora, lora)]
        with pytest.raises(ShopfitError, match="not finite"):
            futures[0].result(60)
        for future in futures[1:]:
            assert dict(future.result(60).probabilities) == pytest.approx(want, abs=1e-4)


def test_a_file_above_its_limit_is_refused_before_it_is_read(dora: Bundle) -> None:
    with (dora.folder / SCALES).open("r+b") as file:
        file.truncate(256 * 1024**2 + 1)  # sparse: no disk is written
    with pytest.raises(BundleError, match=r"norm_scales\.safetensors has 268435457 bytes"):
        dora.read(SCALES)
