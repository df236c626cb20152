"""What vLLM is given for a name, what it is refused, and that names that are refused leave nothing behind."""

import asyncio
import gc
import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tests.engine.conftest import recipe_of, seal_as
from tests.vllm.conftest import Publish

from shopfit.adapter.bundle import Bundle
from shopfit.base.load import Base
from shopfit.registry import Registry
from shopfit.settings import Settings
from shopfit_vllm.resolver import AdapterResolver

MakeBundle = Callable[..., Bundle]
FILES = ["adapter_config.json", "adapter_model.safetensors"]


def ask(resolver: AdapterResolver, base: Path, name: str) -> Path | None:
    return asyncio.run(resolver.resolve(str(base), name))


def refused(resolver: AdapterResolver, base: Path, name: str, caplog: pytest.LogCaptureFixture) -> str:
    """Why a name was refused, as the log has it."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, logger="vllm.shopfit"):
        assert ask(resolver, base, name) is None
    (said,) = caplog.records
    return said.getMessage()


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_plain_lora_is_brought_to_a_path_of_its_own(
    resolver: AdapterResolver, tiny_base: Path, make_bundle: MakeBundle, publish: Publish, method: str
) -> None:
    first, second = (make_bundle("acme", task="generate", method=method, seed=seed) for seed in (0, 1))
    names = [publish(first), publish(second)]
    folders = [ask(resolver, tiny_base, name) for name in names]
    for bundle, folder in zip((first, second), folders, strict=True):
        assert folder is not None
        assert folder.is_absolute()
        assert bundle.digest in folder.parts
        assert sorted(path.name for path in folder.iterdir()) == FILES
        assert all((folder / name).read_bytes() == bundle.read(f"lora/{name}") for name in FILES)
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["peft_type"] == "LORA"
        assert config["r"] == config["lora_alpha"]
    assert folders[0] != folders[1]
    assert ask(resolver, tiny_base, names[0]) == folders[0]


def test_blobs_may_be_anywhere(settings: Settings, tiny_base: Path, quick_bundle: MakeBundle, tmp_path: Path) -> None:
    from shopfit.registry.pinned_name import PinnedName

    far = replace(settings, blobs=f"memory://{tmp_path.name}")
    with Registry.open(far) as registry:
        bundle = quick_bundle("acme")
        name = str(PinnedName.of(registry.publish(bundle, promote=True, actor="ada")))
    resolver = AdapterResolver(far, max_rank=16)
    folder = ask(resolver, tiny_base, name)
    resolver.close()
    assert folder is not None
    assert (folder / FILES[1]).read_bytes() == bundle.read("lora/adapter_model.safetensors")


def test_what_has_no_plain_lora_is_refused(
    resolver: AdapterResolver,
    tiny_base: Path,
    make_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
    settings: Settings,
) -> None:
    prefix = publish(make_bundle("acme", task="generate", method="prefix"))
    assert "is a prefix (method prefix), which has no plain LoRA form" in refused(resolver, tiny_base, prefix, caplog)
    dora = publish(make_bundle("crema", task="generate", switch="dora"))
    assert "is DoRA (method lora), which has no plain LoRA form" in refused(resolver, tiny_base, dora, caplog)
    assert not settings.cache.exists()  # neither was brought


def test_an_adapter_of_another_base_is_refused(
    resolver: AdapterResolver,
    other_base: Path,
    tmp_path: Path,
    quick_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = publish(quick_bundle("acme"))
    assert "was trained on the base" in refused(resolver, other_base, name, caplog)
    assert "the files of the base" in refused(resolver, tmp_path / "nowhere", name, caplog)


def test_a_rank_above_the_servers_is_refused(
    settings: Settings,
    tiny_base: Path,
    quick_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = publish(quick_bundle("acme", rank=9))
    resolver = AdapterResolver(settings, max_rank=8)
    assert "has rank 9 (allowed: 8 at most)" in refused(resolver, tiny_base, name, caplog)
    resolver.close()


STRANGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a layer that the base lacks": (
        "is no layer of the base",
        lambda folder: rename(folder, "layers.1.self_attn", "layers.2.self_attn"),
    ),
    "a name without PEFT's prefix": (
        "is no weight of LoRA",
        lambda folder: rename(folder, "base_model.model.", "model."),
    ),
    "a layer of another size": (
        "changes 64 x 64 numbers, the base has 32 x 64",
        lambda folder: rename(folder, "k_proj", "x_proj", "q_proj", "k_proj", "x_proj", "q_proj"),
    ),
    "another alpha": ("lora_alpha: 4 (allowed: 2)", lambda folder: reconfigure(folder, lora_alpha=4)),
    "another rank": ("r: 1 (allowed: 2)", lambda folder: reconfigure(folder, r=1)),
    "another kind": ("peft_type: 'ADALORA' (allowed: LORA)", lambda folder: reconfigure(folder, peft_type="ADALORA")),
    "rank-stabilised": ("use_rslora: True (allowed: off)", lambda folder: reconfigure(folder, use_rslora=True)),
    "DoRA by its configuration": ("use_dora: True (allowed: off)", lambda folder: reconfigure(folder, use_dora=True)),
    "whole modules": ("modules_to_save", lambda folder: reconfigure(folder, modules_to_save=["lm_head"])),
    "a pattern of ranks": ("rank_pattern", lambda folder: reconfigure(folder, rank_pattern={"q_proj": 1})),
    "no targets": ("target_modules: 'all-linear'", lambda folder: reconfigure(folder, target_modules="all-linear")),
    "no configuration": ("is no object", lambda folder: (folder / FILES[0]).write_text("[]")),
    "a pickle": ("is not part of plain LoRA", lambda folder: (folder / "adapter_model.bin").write_bytes(b"\x80")),
}


def rename(folder: Path, *pairs: str) -> None:
    weights = load_file(folder / FILES[1])
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        weights = {name.replace(old, new): weight for name, weight in weights.items()}
    save_file(weights, folder / FILES[1])


def reconfigure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / FILES[0]).read_text())
    (folder / FILES[0]).write_text(json.dumps(config | changes))


@pytest.mark.parametrize("what", list(STRANGE))
def test_what_vllm_would_compute_differently_is_refused(
    resolver: AdapterResolver,
    base: Base,
    tiny_base: Path,
    quick_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    said, change = STRANGE[what]
    folder = quick_bundle("acme", task="generate").folder
    change(folder / "lora")
    name = publish(seal_as(folder, base, recipe_of(base, "generate"), "acme", method="lora", rank=2, seed=0))
    assert said in refused(resolver, tiny_base, name, caplog)


def test_what_the_registry_does_not_name_is_refused(
    resolver: AdapterResolver,
    tiny_base: Path,
    quick_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = publish(quick_bundle("acme"))
    for strange in (
        f"acme/r@1:{'0' * 16}",  # other weights than the number names
        name.replace("@1:", "@2:"),
        name.replace("acme", "crema"),
    ):
        assert f"the registry has no {strange}" in refused(resolver, tiny_base, strange, caplog)
    for alias in ("acme/r", "acme/r@production", "acme/r@1"):
        assert "is not the name of one version for ever" in refused(resolver, tiny_base, alias, caplog)
    assert ask(resolver, tiny_base, name) is not None


def test_a_damaged_file_in_the_cache_is_brought_again(
    resolver: AdapterResolver, tiny_base: Path, quick_bundle: MakeBundle, publish: Publish
) -> None:
    bundle = quick_bundle("acme")
    name = publish(bundle)
    folder = ask(resolver, tiny_base, name)
    assert folder is not None
    (folder / FILES[1]).write_bytes(b"edited")
    assert ask(resolver, tiny_base, name) == folder
    assert (folder / FILES[1]).read_bytes() == bundle.read("lora/adapter_model.safetensors")


def test_a_removed_version_is_refused_though_its_files_are_here(
    resolver: AdapterResolver,
    settings: Settings,
    tiny_base: Path,
    quick_bundle: MakeBundle,
    publish: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = publish(quick_bundle("acme"))
    assert ask(resolver, tiny_base, name) is not None
    with Registry.open(settings) as registry:
        registry.erase("acme", settings, actor="ada")
    assert "the registry has no" in refused(resolver, tiny_base, name, caplog)
    assert not any(settings.cache.iterdir())  # erasing takes what was brought for vLLM, too


def test_it_never_raises(settings: Settings, tiny_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "registry.db").write_text("no database" * 1000)
    broken = replace(settings, registry=f"sqlite:///{tmp_path}/registry.db")
    resolver = AdapterResolver(broken, max_rank=16)
    name = f"acme/r@1:{'0' * 16}"
    assert "is not served: the registry" in refused(resolver, tiny_base, name, caplog)
    resolver.close()
    assert "is not served" in refused(resolver, tiny_base, name, caplog)  # whatever it is, even that it is closed


def test_processes_share_a_cache(
    settings: Settings, tiny_base: Path, quick_bundle: MakeBundle, publish: Publish
) -> None:
    bundle = quick_bundle("acme")
    name = publish(bundle)
    command = [sys.executable, str(Path(__file__).with_name("asker.py")), str(tiny_base), name]
    askers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = {asker.communicate()[0].strip() for asker in askers}
    assert told == {str(settings.cache / bundle.digest / "lora")}
    assert [path.name for path in settings.cache.iterdir()] == [bundle.digest]


def test_a_flood_of_names_leaves_nothing_behind(
    settings: Settings, tiny_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """100,000 names that cannot be, for which no file is touched, and 2,000 that could be."""
    caplog.set_level(logging.CRITICAL, logger="vllm.shopfit")  # pytest keeps every line of the log
    resolver = AdapterResolver(settings, max_rank=16)

    async def flood(names: list[str]) -> None:
        for name in names:
            assert await resolver.resolve(str(tiny_base), name) is None

    before = sorted(settings.home.rglob("*"))
    asyncio.run(flood(["warm"]))
    kept = _kept(lambda: asyncio.run(flood([f"acme/{number}?@1:{number:016x}" for number in range(100_000)])))
    assert kept < 100_000  # not a byte a name
    assert sorted(settings.home.rglob("*")) == before
    asyncio.run(flood([f"acme/r@1:{number:016x}" for number in range(100)]))
    files = sorted(settings.home.rglob("*"))
    kept = _kept(lambda: asyncio.run(flood([f"acme-{n}/r@{n + 1}:{n:016x}" for n in range(2_000)])))
    assert kept < 2_000 * 50
    assert sorted(settings.home.rglob("*")) == files
    resolver.close()


def _kept(action: Callable[[], object]) -> int:
    """Bytes that Python still holds after an action."""
    gc.collect()
    tracemalloc.start()
    try:
        action()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
