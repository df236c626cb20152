"""The wheel for vLLM's environment: from the same source, whole, and without torch."""

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.vllm.conftest import Publish

import shopfit
from shopfit.adapter.bundle import Bundle

SOURCE = Path(shopfit.__file__).parents[1] / "shopfit_vllm"
NEVER = {"torch", "transformers", "peft", "llguidance", "accelerate", "scikit-learn", "pyarrow", "datasets"}
READ_ALL = """
import importlib, pkgutil, json, sys
names = ["shopfit_vllm", "shopfit.documents", "shopfit.errors", "shopfit.settings"]
for room in ("recipe", "merchant", "base", "adapter", "registry"):
    package = f"shopfit.{room}"
    names += [each.name for each in pkgutil.iter_modules(importlib.import_module(package).__path__, package + ".")]
names += [each.name for each in pkgutil.iter_modules(importlib.import_module("shopfit_vllm").__path__, "shopfit_vllm.")]
needs_vllm = {"shopfit_vllm.plugin", "shopfit.registry.migrations"}
for name in names:
    if name not in needs_vllm:
        importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=SOURCE, check=True, capture_output=True)
    (wheel,) = folder.glob("shopfit_vllm-*.whl")
    return wheel


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    metadata = next(site.glob("shopfit_vllm-*.dist-info/METADATA"))
    for name in required(list(importlib.metadata.PathDistribution(metadata.parent).requires or [])):
        for place in places(importlib.metadata.distribution(name)):
            if not (site / place.name).exists():
                (site / place.name).symlink_to(place)
    return folder / "bin" / "python"


def required(requirements: list[str], extra: str = "") -> set[str]:
    """Every distribution that is installed with these."""
    found: set[str] = set()
    waiting = [(requirement, extra) for requirement in requirements]
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        if name not in found:
            found.add(name)
            waiting += [(each, "") for each in importlib.metadata.distribution(name).requires or []]
    return found


def places(distribution: importlib.metadata.Distribution) -> Iterator[Path]:
    """The files and folders of a distribution that lie in site-packages."""
    for name in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        yield Path(str(distribution.locate_file(name)))


def test_it_holds_source_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "[vllm.general_plugins]\nshopfit = shopfit_vllm.plugin:register" in entry
    assert {name.partition("/")[0] for name in names} == {
        "shopfit",
        "shopfit_vllm",
        f"shopfit_vllm-{shopfit.__version__}.dist-info",
    }
    assert all(name.endswith((".py", "py.typed")) for name in names if ".dist-info/" not in name)
    assert "shopfit/registry/migrations/versions/r0001_first_tables.py" in names
    assert sorted(name for name in names if name.startswith("shopfit_vllm/")) == sorted(
        f"shopfit_vllm/{path.name}" for path in SOURCE.glob("*.py")
    )


def test_it_requires_nothing_that_vllm_pins_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"shopfit_vllm-{shopfit.__version__}.dist-info/METADATA").decode()
    lines = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    names = required([line.removeprefix("Requires-Dist:").strip() for line in lines])
    assert names >= {"sqlalchemy", "pydantic", "safetensors"}
    assert not names & NEVER


def test_every_module_of_it_imports_without_torch(bare: Path) -> None:
    done = subprocess.run([str(bare), "-I", "-c", READ_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {name.partition(".")[0] for name in json.loads(done.stdout)} & NEVER


def test_it_resolves_an_adapter_there(
    bare: Path, tiny_base: Path, quick_bundle: Callable[..., Bundle], publish: Publish, home: Path
) -> None:
    bundle = quick_bundle("acme")
    name = publish(bundle)
    command = [str(bare), "-I", str(Path(__file__).with_name("asker.py")), str(tiny_base), name]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "SHOPFIT_HOME": str(home)})
    assert done.stdout.strip() == str(home / "cache" / bundle.digest / "lora"), done.stderr
