"""Bundles with random weights, and registries to put them in: SQLite, PostgreSQL, and blobs that are not on disk."""

import os
import secrets
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from safetensors.numpy import save_file

from shopfit.adapter.bundle import BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.registry import Registry
from shopfit.settings import Settings

MakeBundle = Callable[..., Bundle]
T = TypeVar("T")


def at_once(count: int, call: Callable[[int], T]) -> list[T]:
    """What several threads get that call something at the same moment, each with its number; or the first error."""
    ready = threading.Barrier(count)

    def begin(turn: int) -> T:
        ready.wait()
        return call(turn)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Makes a bundle of its own folder; the same seed gives the same weights."""

    def make(
        merchant: str = "acme",
        recipe: str = "review-sentiment",
        *,
        seed: int = 0,
        accuracy: float = 0.9,
        base: str = "f" * 64,
    ) -> Bundle:
        folder = tmp_path / "bundles" / secrets.token_hex(4)
        weights = np.random.default_rng(seed).normal(size=(8, 64)).astype(np.float32)
        factors = {"layers.0.lora_A.weight": weights, "layers.0.lora_B.weight": np.ascontiguousarray(weights.T)}
        for part in ("native", "lora"):
            (folder / part).mkdir(parents=True)
            save_file(
                {f"layers.0.lora_{side}.weight": values for side, values in factors.items()},
                folder / part / "adapter_model.safetensors",
            )
            (folder / part / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}\n')
        (folder / "report.json").write_text('{"passed": true}\n')
        (folder / "README.md").write_text(f"# {merchant}/{recipe}\n")
        manifest = Manifest(
            merchant=merchant,
            recipe=recipe,
            recipe_snapshot={"name": recipe},
            base=BaseIdentity(name="smollm2-135m", fingerprint=base),
            data=DataIdentity(digest="d" * 64, train=["1"], valid=["2"], test=["3"]),
            seed=seed,
            method="lora",
            rank=8,
            trainable_parameters=512,
            steps=10,
            metrics={"accuracy": accuracy},
            libraries={"torch": "2.13.0"},
            created=datetime(2026, 1, 1, tzinfo=UTC),  # so that the same bundle is the same in the next second too
        )
        return seal(folder, manifest)

    return make


def _settings(home: Path, registry: str, blobs: str) -> Settings:
    return Settings(home=home, registry=registry, blobs=blobs)


@pytest.fixture(params=["sqlite", "postgresql"])
def durable(request: pytest.FixtureRequest, home: Path) -> Settings:
    """A registry that several processes can share."""
    url = f"sqlite:///{home}/registry.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    return _settings(home, url, str(home / "blobs"))


@pytest.fixture(params=["sqlite", "postgresql", "memory-blobs"])
def place(request: pytest.FixtureRequest, home: Path) -> Settings:
    """Every kind of registry."""
    url = request.getfixturevalue("postgresql") if request.param == "postgresql" else f"sqlite:///{home}/registry.db"
    in_memory = request.param == "memory-blobs"
    return _settings(home, url, f"memory://{secrets.token_hex(6)}" if in_memory else str(home / "blobs"))


@pytest.fixture
def registry(place: Settings) -> Iterator[Registry]:
    with Registry.open(place) as registry:
        yield registry


@pytest.fixture
def local(settings: Settings) -> Iterator[Registry]:
    """The default registry: SQLite and a folder."""
    with Registry.open(settings) as registry:
        yield registry


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 512 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small filesystem")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
