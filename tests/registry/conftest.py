"""Bundles with random weights, and registries to put them in: SQLite, PostgreSQL, and blobs that are not on disk."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from shopfit.adapter.bundle import BaseIdentity, Bundle, DataIdentity, Manifest, seal
from shopfit.registry import Registry
from shopfit.settings import Settings

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Makes a bundle of its own folder; the same seed gives the same weights."""

    def make(
        merchant: str = "acme", recipe: str = "review-sentiment", *, seed: int = 0, accuracy: float = 0.9
    ) -> Bundle:
        folder = tmp_path / "bundles" / secrets.token_hex(4)
        weights = np.random.default_rng(seed).normal(size=(8, 64)).astype(np.float32)
        for part in ("native", "lora"):
            (folder / part).mkdir(parents=True)
            save_file({"layers.0.lora_A.weight": weights}, folder / part / "adapter_model.safetensors")
            (folder / part / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}\n')
        (folder / "report.json").write_text('{"passed": true}\n')
        (folder / "README.md").write_text(f"# {merchant}/{recipe}\n")
        manifest = Manifest(
            merchant=merchant,
            recipe=recipe,
            recipe_snapshot={"name": recipe},
            base=BaseIdentity(name="smollm2-135m", fingerprint="f" * 64),
            data=DataIdentity(digest="d" * 64, train=["1"], valid=["2"], test=["3"]),
            seed=seed,
            method="lora",
            rank=8,
            trainable_parameters=512,
            steps=10,
            metrics={"accuracy": accuracy},
            libraries={"torch": "2.13.0"},
        )
        return seal(folder, manifest)

    return make


def _postgresql_programs() -> Path | None:
    """Where initdb and pg_ctl are: Debian keeps them off the PATH, a folder a release."""
    if on_path := shutil.which("pg_ctl"):
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Path]:
    """A throw-away PostgreSQL server; the value is the folder of its socket."""
    programs = _postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    # a server refuses to run as root, and its user must reach its folder: so not below pytest's private one
    folder = Path(tempfile.mkdtemp(prefix="shopfit-pg-", dir="/tmp"))
    accounts = {account.pw_name for account in pwd.getpwall()}
    user = None if os.geteuid() != 0 else "postgres" if "postgres" in accounts else "nobody"
    if user:
        shutil.chown(folder, user)

    def run(*command: str | Path) -> None:
        done = subprocess.run(
            command, user=user, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout

    try:
        run(programs / "initdb", "-D", folder / "data", "-U", "shopfit", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off -c max_connections=200"
        run(programs / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
        try:
            yield folder
        finally:
            run(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgresql(postgresql_server: Path) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(host=str(postgresql_server), user="shopfit", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"postgresql+psycopg://shopfit:s3cret@/{name}?host={postgresql_server}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


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
    """A filesystem of 256 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small filesystem")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
